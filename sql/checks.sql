-- What `lvmdb verify` asks.

-- name: corpus_health
-- One row a dataset: counts, order, norms, repetitions.
SELECT * FROM corpus_health
WHERE dataset_source = coalesce(CAST(:dataset AS text), dataset_source)
ORDER BY dataset_source;

-- name: table_sizes
-- The tables that hold most, with their indexes.
SELECT c.relname AS name,
       format('%s, about %s rows', pg_size_pretty(pg_total_relation_size(c.oid)),
              greatest(c.reltuples, 0)::bigint) AS described
FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
  AND pg_total_relation_size(c.oid) > 128 * 1024
ORDER BY pg_total_relation_size(c.oid) DESC
LIMIT 8;
