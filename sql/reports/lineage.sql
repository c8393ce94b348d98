-- Where does a run's number come from: code, data, seed, machine, parents, weights?
-- For one run: SET lvmdb.run_id = 7; else the newest run. One page, from top to bottom.
WITH RECURSIVE chosen AS (
    SELECT r.*, s.name AS set_name, s.dataset_source, s.context_len, s.stride, s.scope,
           s.seed AS set_seed, s.fingerprint AS set_fingerprint, s.articles, s.concepts,
           s.train_windows, s.val_windows, s.test_windows, s.leaks, s.allowed_leaks,
           e.name AS encoder,
           (SELECT c.sha256 FROM checkpoint c
            WHERE c.run_id = r.run_id AND c.kind = 'best') AS best_sha256
    FROM experiment_run r
    JOIN sequence_set s USING (sequence_set_id)
    JOIN encoder e USING (encoder_id)
    WHERE r.run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint,
                              (SELECT max(run_id) FROM experiment_run))
), ancestor AS (
    SELECT 1 AS depth, parent_run_id AS run_id FROM chosen WHERE parent_run_id IS NOT NULL
    UNION ALL
    SELECT a.depth + 1, r.parent_run_id
    FROM ancestor a JOIN experiment_run r USING (run_id)
    WHERE r.parent_run_id IS NOT NULL
) CYCLE run_id SET looped USING path
, page (section, place, rank, item, value) AS (
    SELECT v.section, v.place, v.rank, v.item, v.value
    FROM chosen c
    CROSS JOIN LATERAL (VALUES
        ('run', 1, 1, 'run', c.run_id::text),
        ('run', 1, 2, 'architecture', c.architecture || ' (' || c.kind || ')'),
        ('run', 1, 3, 'status', c.status || coalesce(': ' || c.error, '')),
        ('run', 1, 4, 'stamps', coalesce(nullif(array_to_string(c.stamps, ' '), ''), 'none')),
        ('run', 1, 5, 'seed', c.seed::text),
        ('run', 1, 6, 'loss', c.loss),
        ('run', 1, 7, 'started', to_char(c.started_at, 'YYYY-MM-DD HH24:MI:SS OF')),
        ('run', 1, 8, 'took', date_trunc('second', c.finished_at - c.started_at)::text),
        ('code', 2, 1, 'version', c.code_version),
        ('code', 2, 2, 'uncommitted changes', CASE c.code_dirty
            WHEN true THEN 'YES: the version does not say what ran' WHEN false THEN 'no'
            ELSE 'unknown: a release, or not run yet' END),
        ('data', 3, 1, 'fingerprint', encode(c.sequence_fingerprint, 'hex')),
        ('data', 3, 2, 'sequence set', c.set_name),
        ('data', 3, 3, 'its fingerprint now', CASE WHEN c.set_fingerprint = c.sequence_fingerprint
            THEN 'the same'
            ELSE 'ANOTHER: ' || coalesce(encode(c.set_fingerprint, 'hex'), 'none') END),
        ('data', 3, 4, 'dataset', c.dataset_source),
        ('data', 3, 5, 'encoder', c.encoder),
        ('data', 3, 6, 'scope', c.scope || CASE c.scope
            WHEN 'corpus' THEN ': windows run ACROSS articles' ELSE '' END),
        ('data', 3, 7, 'windows', format('context %s, stride %s, split with seed %s',
                                         c.context_len, c.stride, c.set_seed)),
        ('data', 3, 8, 'counts', format('%s articles, %s concepts; windows: train %s, val %s, test %s',
            c.articles, c.concepts, c.train_windows, c.val_windows, c.test_windows)),
        ('data', 3, 9, 'leaks', CASE WHEN c.leaks IS NULL THEN 'not looked for'
            ELSE format('%s found, %s allowed', c.leaks, c.allowed_leaks) END),
        ('machine', 4, 1, 'device', c.device),
        ('machine', 4, 2, 'kernel', c.kernel),
        ('model', 5, 1, 'parameters', c.parameter_count::text)
    ) AS v (section, place, rank, item, value)
    UNION ALL
    SELECT 'machine', 4, 10 + row_number() OVER (ORDER BY e.key), replace(e.key, '_', ' '),
           CASE jsonb_typeof(e.value)
               WHEN 'object' THEN (SELECT string_agg(p.key || ' ' || p.value, ', ' ORDER BY p.key)
                                   FROM jsonb_each_text(e.value) p)
               ELSE e.value #>> '{}'
           END
    FROM chosen c CROSS JOIN LATERAL jsonb_each(c.environment) e
    UNION ALL
    SELECT 'model', 5, 10 + row_number() OVER (ORDER BY h.key), h.key, h.value
    FROM chosen c CROSS JOIN LATERAL jsonb_each_text(c.hyperparameters) h
    UNION ALL
    SELECT 'origin', 6, a.depth, 'parent ' || a.depth,
           format('run %s: %s, seed %s, %s, best weights %s', r.run_id, r.architecture, r.seed,
                  r.status, coalesce(left(encode(k.sha256, 'hex'), 16), 'none'))
    FROM ancestor a
    JOIN experiment_run r USING (run_id)
    LEFT JOIN checkpoint k ON k.run_id = r.run_id AND k.kind = 'best'
    WHERE NOT a.looped
    UNION ALL
    SELECT 'origin', 6, 1000 + row_number() OVER (ORDER BY m.member_run_id), 'member',
           format('run %s: %s, weight %s', r.run_id, r.architecture, m.weight)
    FROM chosen c
    JOIN ensemble_member m ON m.ensemble_run_id = c.run_id
    JOIN experiment_run r ON r.run_id = m.member_run_id
    UNION ALL
    SELECT 'origin', 6, 2000 + row_number() OVER (ORDER BY r.run_id), 'trained again as',
           format('run %s: %s', r.run_id, array_to_string(r.stamps, ' '))
    FROM chosen c JOIN experiment_run r ON ('reproduces=' || c.run_id) = ANY (r.stamps)
    UNION ALL
    SELECT 'weights', 7, row_number() OVER (ORDER BY k.kind), k.kind || ' checkpoint',
           format('epoch %s, %s bytes, sha256 %s', k.epoch, k.bytes, encode(k.sha256, 'hex'))
    FROM chosen c JOIN checkpoint k USING (run_id)
    UNION ALL
    SELECT 'evaluation', 8, row_number() OVER (ORDER BY e.split, e.pool, e.evaluation_id),
           format('%s %s (%s, pool %s)', e.split, e.metric, 'version ' || e.version, e.pool),
           round(e.value::numeric, 6)
           || coalesce(' [' || round(e.low::numeric, 6) || ', ' || round(e.high::numeric, 6) || ']',
                       '')
           || CASE WHEN e.checkpoint_sha256 IS DISTINCT FROM c.best_sha256
                  THEN ', OF OTHER WEIGHTS ' ELSE ', weights ' END
           || coalesce(left(encode(e.checkpoint_sha256, 'hex'), 16), 'none')
           || ', code ' || coalesce(left(e.code_version, 16), 'unknown')
           || CASE WHEN e.code_version IS DISTINCT FROM c.code_version
                  THEN ' (not that of training)' ELSE '' END
    FROM chosen c JOIN evaluation e USING (run_id)
)
SELECT section, item, coalesce(value, 'none') AS value
FROM page
ORDER BY place, rank;
