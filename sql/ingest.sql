-- Ingest jobs: who works on them, what is claimed, how far they are.
--
-- A job is cut into ranges of its source, in order. A process claims the first free one, and commits
-- it when all before it are committed: so the database holds at any moment a beginning of the source,
-- and articles get their ordinals in its order, however many processes there are.

-- name: next_worker
-- The id of a process that is about to join: its lock is taken before anyone can see it.
SELECT nextval(pg_get_serial_sequence('ingest_worker', 'worker_id'));

-- name: lock_worker
-- A process is alive while its session holds this lock.
SELECT pg_advisory_lock(:lock_class ::integer, :worker_id ::integer);

-- name: lock_beginning
-- One process at a time makes what all of them need: the rows of the encoder and the dataset.
SELECT pg_advisory_xact_lock(:lock_class ::integer, 0);

-- name: end_dead_jobs
-- Jobs of a dataset whose processes are all gone: they have failed, and did what their ranges say.
UPDATE ingest_job j
SET status = 'failed', read = d.read, added = d.added, changed = d.changed,
    articles = d.added + d.changed, unchanged = d.unchanged, failed = d.failed,
    concepts = d.concepts,
    finished_at = (SELECT max(coalesce(w.ended_at, w.heartbeat_at)) FROM ingest_worker w
                   WHERE w.job_id = j.job_id)
FROM (
    SELECT k.job_id, coalesce(sum(r.read), 0) AS read, coalesce(sum(r.added), 0) AS added,
           coalesce(sum(r.changed), 0) AS changed, coalesce(sum(r.unchanged), 0) AS unchanged,
           coalesce(sum(r.failed), 0) AS failed, coalesce(sum(r.concepts), 0) AS concepts
    FROM ingest_job k LEFT JOIN ingest_range r ON r.job_id = k.job_id AND r.done_at IS NOT NULL
    WHERE k.dataset_source = :dataset AND k.status = 'running'
    GROUP BY k.job_id
) d
WHERE d.job_id = j.job_id
  AND EXISTS (SELECT FROM ingest_worker w WHERE w.job_id = j.job_id)
  AND NOT EXISTS (SELECT FROM live_ingest_worker l WHERE l.job_id = j.job_id);

-- name: forget_ranges
-- Ranges of jobs that have ended.
DELETE FROM ingest_range r USING ingest_job j
WHERE j.job_id = r.job_id AND j.dataset_source = :dataset AND j.status <> 'running';

-- name: job_to_join
-- A job that somebody works on, over the same source with the same options.
SELECT j.job_id, j.total FROM ingest_job j
WHERE j.dataset_source = :dataset AND j.reader = :reader AND j.source = :source
  AND j.options = CAST(:options AS jsonb) AND j.status = 'running'
  AND EXISTS (SELECT FROM live_ingest_worker l WHERE l.job_id = j.job_id)
ORDER BY j.job_id DESC
LIMIT 1;

-- name: add_worker
-- A process joins a job.
INSERT INTO ingest_worker (worker_id, job_id, name)
OVERRIDING SYSTEM VALUE VALUES (:worker_id, :job_id, :name);

-- name: beat
-- A process is alive.
UPDATE ingest_worker SET heartbeat_at = now() WHERE worker_id = :worker_id;

-- name: claim_freed
-- The first range that somebody gave back, or died with.
UPDATE ingest_range SET worker_id = :worker_id
WHERE job_id = :job_id AND ordinal = (
    SELECT r.ordinal FROM ingest_range r
    WHERE r.job_id = :job_id AND r.done_at IS NULL
      AND NOT EXISTS (SELECT FROM live_ingest_worker l WHERE l.worker_id = r.worker_id)
    ORDER BY r.ordinal
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING ordinal;

-- name: claim_next
-- The range behind all that were claimed.
WITH taken AS (
    UPDATE ingest_job SET claimed = claimed + 1
    WHERE job_id = :job_id AND status = 'running' AND (ranges IS NULL OR claimed < ranges)
    RETURNING claimed - 1 AS ordinal
)
INSERT INTO ingest_range (job_id, ordinal, worker_id)
SELECT :job_id, ordinal, :worker_id FROM taken
RETURNING ordinal;

-- name: next_in_turn
-- The first range that is not committed, and whether somebody alive has it.
SELECT r.ordinal, EXISTS (SELECT FROM live_ingest_worker l WHERE l.worker_id = r.worker_id) AS held
FROM ingest_range r
WHERE r.job_id = :job_id AND r.done_at IS NULL
ORDER BY r.ordinal
LIMIT 1;

-- name: end_if_silent
-- The server ends this transaction, should its process be stopped or its machine vanish.
SET LOCAL idle_in_transaction_session_timeout = '90s';

-- name: commit_soon
-- This transaction does not wait for the disk: were the machine to lose its power, the last ranges
-- would be gone, whole, and be done again. A job's end waits for all of them.
SET LOCAL synchronous_commit = off;

-- name: still_here
-- Said in a transaction that waits.
SELECT;

-- name: source_ended
-- The source has so many ranges; nothing is behind them, and none of them is empty. No row where
-- that contradicts what another process has found.
UPDATE ingest_job SET ranges = :ranges
WHERE job_id = :job_id AND coalesce(ranges, :ranges) = :ranges
  AND NOT EXISTS (SELECT FROM ingest_range r WHERE r.job_id = :job_id AND r.done_at IS NOT NULL
                  AND (r.ordinal < :ranges) = (r.read = 0))
RETURNING job_id;

-- name: drop_ranges_behind
-- Ranges that turned out to lie behind the source's end.
DELETE FROM ingest_range WHERE job_id = :job_id AND ordinal >= :ranges;

-- name: given_up
-- Whether others have ended a job before all of its ranges were committed.
SELECT j.status <> 'running' AND j.ranges IS DISTINCT FROM (
           SELECT sum(w.ranges) FROM ingest_worker w WHERE w.job_id = j.job_id)
FROM ingest_job j
WHERE j.job_id = :job_id;

-- name: still_mine
-- Whether a range is still this process's to commit.
SELECT EXISTS (SELECT FROM ingest_range r WHERE r.job_id = :job_id AND r.ordinal = :ordinal
               AND r.worker_id = :worker_id AND r.done_at IS NULL);

-- name: commit_range
-- A range is done.
UPDATE ingest_range
SET read = :read, added = :added, changed = :changed, unchanged = :unchanged, failed = :failed,
    concepts = :concepts, seen = :seen, done_at = now()
WHERE job_id = :job_id AND ordinal = :ordinal;

-- name: count_worker
-- What a process has done, one range more; one that lies behind the end does not count.
UPDATE ingest_worker
SET ranges = ranges + least(:read, 1), articles = articles + :articles, concepts = concepts + :concepts,
    heartbeat_at = now()
WHERE worker_id = :worker_id;

-- name: add_timings
-- Time spent in steps of a job, added to what is there.
INSERT INTO pipeline_timing (job_id, step, items, seconds)
SELECT :job_id, n.step, n.items, n.seconds
FROM unnest(:steps ::text[], :items ::bigint[], :seconds ::double precision[])
     AS n (step, items, seconds)
ORDER BY n.step
ON CONFLICT (job_id, step) DO UPDATE
SET items = pipeline_timing.items + excluded.items,
    seconds = pipeline_timing.seconds + excluded.seconds;

-- name: add_errors
-- What failed, and how often in a row it has by now: what failed before and was not done since.
INSERT INTO ingest_error (job_id, source_key, step, message, tries)
SELECT :job_id, n.source_key, n.step, n.message, 1 + coalesce((
           SELECT max(e.tries) FROM ingest_error e JOIN ingest_job j USING (job_id)
           WHERE e.source_key = n.source_key AND e.step = n.step AND e.resolved_at IS NULL
             AND j.dataset_source = :dataset AND j.job_id <> :job_id), 0)
FROM unnest(:keys ::text[], :steps ::text[], :messages ::text[])
     WITH ORDINALITY AS n (source_key, step, message, place)
ORDER BY n.place;

-- name: resolve_errors
-- What had failed of these articles is done.
UPDATE ingest_error e SET resolved_at = now()
FROM ingest_job j
WHERE j.job_id = e.job_id AND j.dataset_source = :dataset AND e.resolved_at IS NULL
  AND e.source_key = ANY (:keys ::text[]);

-- name: release_ranges
-- What a process has claimed and not committed is free.
UPDATE ingest_range SET worker_id = NULL
WHERE job_id = :job_id AND worker_id = :worker_id AND done_at IS NULL;

-- name: end_worker
-- A process leaves.
UPDATE ingest_worker SET ended_at = now(), heartbeat_at = now()
WHERE worker_id = :worker_id AND ended_at IS NULL;

-- name: is_complete
-- Whether all ranges of a job are committed, or it has ended anyhow.
SELECT j.status <> 'running'
       OR j.ranges IS NOT NULL AND j.claimed >= j.ranges
          AND NOT EXISTS (SELECT FROM ingest_range r WHERE r.job_id = j.job_id AND r.done_at IS NULL)
FROM ingest_job j
WHERE j.job_id = :job_id;

-- name: articles_read
-- How many articles the ranges of a job held.
SELECT j.read + coalesce((SELECT sum(r.read) FROM ingest_range r WHERE r.job_id = j.job_id), 0)
FROM ingest_job j WHERE j.job_id = :job_id;

-- name: add_vanished
-- Articles that came from the source of a job and were in none of its ranges.
INSERT INTO ingest_vanished (job_id, source_key)
SELECT :job_id, a.source_key
FROM ingest_job j
JOIN ingest_job o ON o.reader = j.reader AND o.source = j.source
                 AND o.dataset_source = j.dataset_source
JOIN article a ON a.job_id = o.job_id
WHERE j.job_id = :job_id
  AND NOT EXISTS (
    SELECT FROM (SELECT unnest(r.seen) AS article_id FROM ingest_range r WHERE r.job_id = :job_id) s
    WHERE s.article_id = a.article_id
);

-- name: finish_job
-- A job whose ranges are all committed ends, once.
UPDATE ingest_job j
SET status = CASE WHEN EXISTS (SELECT FROM ingest_error e WHERE e.job_id = j.job_id)
                  THEN 'failed' ELSE 'succeeded' END,
    read = d.read, added = d.added, changed = d.changed, articles = d.added + d.changed,
    unchanged = d.unchanged, failed = d.failed, concepts = d.concepts,
    vanished = CASE WHEN :vanished
                    THEN (SELECT count(*) FROM ingest_vanished v WHERE v.job_id = j.job_id) END,
    finished_at = now()
FROM (
    SELECT coalesce(sum(r.read), 0) AS read, coalesce(sum(r.added), 0) AS added,
           coalesce(sum(r.changed), 0) AS changed, coalesce(sum(r.unchanged), 0) AS unchanged,
           coalesce(sum(r.failed), 0) AS failed, coalesce(sum(r.concepts), 0) AS concepts
    FROM ingest_range r WHERE r.job_id = :job_id
) d
WHERE j.job_id = :job_id;

-- name: job_totals
-- What a job did, with the number of its errors and of the processes that worked on it.
SELECT j.status, j.read, j.added, j.changed, j.unchanged, j.failed, j.vanished, j.concepts,
       (SELECT count(*) FROM ingest_error e WHERE e.job_id = j.job_id) AS errors,
       (SELECT count(*) FROM ingest_worker w WHERE w.job_id = j.job_id) AS workers
FROM ingest_job j
WHERE j.job_id = :job_id;

-- name: ingest_status
-- Jobs, newest first: how far they are, and the time that each step took. Read counts articles;
-- pending is what is left of the source, where it was read beforehand.
SELECT j.job_id AS job, j.dataset_source AS dataset, j.reader, j.source,
       CASE WHEN j.status = 'running' AND w.workers > 0 AND w.live = 0 THEN 'interrupted'
            ELSE j.status END AS status,
       w.live AS processes, d.read, CASE WHEN j.status = 'running' THEN j.total - d.read END AS pending,
       d.added, d.changed, d.unchanged, d.failed, j.vanished, d.concepts,
       (SELECT count(*) FROM ingest_error e WHERE e.job_id = j.job_id) AS errors,
       round(t.seconds::numeric, 1) AS seconds,
       round((d.concepts / nullif(t.seconds, 0))::numeric, 1) AS concepts_s,
       (SELECT string_agg(format('%s %ss', p.step, round(p.seconds::numeric, 1)), ', '
                          ORDER BY p.seconds DESC)
        FROM pipeline_timing p WHERE p.job_id = j.job_id) AS steps,
       j.started_at
FROM ingest_job j
CROSS JOIN LATERAL (
    SELECT j.read + coalesce(sum(r.read), 0) AS read, j.added + coalesce(sum(r.added), 0) AS added,
           j.changed + coalesce(sum(r.changed), 0) AS changed,
           j.unchanged + coalesce(sum(r.unchanged), 0) AS unchanged,
           j.failed + coalesce(sum(r.failed), 0) AS failed,
           j.concepts + coalesce(sum(r.concepts), 0) AS concepts
    FROM ingest_range r WHERE r.job_id = j.job_id AND r.done_at IS NOT NULL
) d
CROSS JOIN LATERAL (
    SELECT count(*) AS workers, max(coalesce(w.ended_at, w.heartbeat_at)) AS last_at,
           count(*) FILTER (WHERE w.worker_id IN (SELECT l.worker_id FROM live_ingest_worker l)) AS live
    FROM ingest_worker w WHERE w.job_id = j.job_id
) w
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM coalesce(j.finished_at, CASE WHEN w.live = 0 THEN w.last_at END, now())
                   - j.started_at)::float8 AS seconds
) t
ORDER BY j.job_id DESC;

-- name: ingest_errors
-- What could not be ingested, newest first; resolved is when a later job did it.
SELECT e.job_id AS job, j.dataset_source AS dataset, e.source_key AS article, e.step, e.message,
       e.tries, e.created_at, e.resolved_at AS resolved
FROM ingest_error e JOIN ingest_job j USING (job_id)
ORDER BY e.error_id DESC;

-- name: ingest_open_errors
-- What could not be ingested and still is not, newest first: of each article and step the last try.
SELECT e.job_id AS job, j.dataset_source AS dataset, e.source_key AS article, e.step, e.message,
       e.tries, e.created_at
FROM ingest_error e
JOIN ingest_job j USING (job_id)
WHERE e.resolved_at IS NULL AND NOT EXISTS (
    SELECT FROM ingest_error n JOIN ingest_job k USING (job_id)
    WHERE n.source_key = e.source_key AND n.step = e.step AND n.error_id > e.error_id
      AND k.dataset_source = j.dataset_source
)
ORDER BY e.error_id DESC;

-- name: ingest_vanished
-- Articles that are no longer in the source that they came from, by the last job that looked.
SELECT v.job_id AS job, j.dataset_source AS dataset, v.source_key AS article, j.reader, j.source
FROM ingest_vanished v
JOIN ingest_job j USING (job_id)
WHERE NOT EXISTS (
    SELECT FROM ingest_job n
    WHERE n.dataset_source = j.dataset_source AND n.reader = j.reader AND n.source = j.source
      AND n.vanished IS NOT NULL AND n.job_id > j.job_id
)
ORDER BY v.job_id DESC, v.source_key;
