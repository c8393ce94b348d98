-- How did a schedule get on, week by week, and which run was the best so far?
-- Hours are of training and validation, without interruptions (view run_time). Waiting: planned or
-- queued; open: its run is chosen when others are done; left out: it has no run, or that was
-- cancelled. The best so far is the run of the highest validation cosine among those of this week
-- and the ones before that have succeeded; its cosine on the test windows stands beside, with the
-- gain over the best baseline there.
-- For one schedule: SET lvmdb.schedule = 'first';
WITH entry AS (
    SELECT x.name AS schedule, x.experiment_id, e.week, e.slot, r.run_id, r.architecture,
           CASE WHEN r.run_id IS NULL AND e.reason IS NULL THEN 'open'
                WHEN r.run_id IS NULL OR r.status = 'cancelled' THEN 'left out'
                WHEN r.status IN ('planned', 'queued') THEN 'waiting'
                ELSE r.status END AS status,
           t.seconds, v.cosine AS val_cosine
    FROM schedule_entry e
    JOIN experiment x USING (experiment_id)
    LEFT JOIN experiment_run r ON r.run_id = e.run_id
    LEFT JOIN run_time t ON t.run_id = e.run_id
    LEFT JOIN run_validation v ON v.run_id = e.run_id
    WHERE x.name = coalesce(nullif(current_setting('lvmdb.schedule', true), ''), x.name)
), week AS (
    SELECT schedule, experiment_id, week, count(*) AS entries,
           count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           count(*) FILTER (WHERE status = 'running') AS running,
           count(*) FILTER (WHERE status = 'waiting') AS waiting,
           count(*) FILTER (WHERE status = 'open') AS open,
           count(*) FILTER (WHERE status = 'left out') AS left_out,
           coalesce(sum(seconds), 0) / 3600 AS hours
    FROM entry
    GROUP BY schedule, experiment_id, week
), tested AS (
    -- A dataset that grew leaves evaluations in the pool that it was: the newest.
    SELECT DISTINCT ON (run_id) run_id, cosine, cosine_gain, cosine_verdict
    FROM run_leaderboard
    WHERE split = 'test'
    ORDER BY run_id, pool_size DESC
)
SELECT w.schedule, w.week, w.entries, w.succeeded, w.failed, w.running, w.waiting, w.open,
       w.left_out, round(w.hours::numeric, 4) AS hours,
       b.run_id AS best_run, b.architecture, b.week AS of_week,
       round(b.val_cosine::numeric, 4) AS val_cosine, round(t.cosine::numeric, 4) AS test_cosine,
       round(t.cosine_gain::numeric, 4) AS test_gain, t.cosine_verdict AS test_verdict
FROM week w
LEFT JOIN LATERAL (
    SELECT e.run_id, e.architecture, e.week, e.val_cosine
    FROM entry e
    WHERE e.experiment_id = w.experiment_id AND e.week <= w.week AND e.status = 'succeeded'
      AND e.val_cosine IS NOT NULL
    ORDER BY e.val_cosine DESC, e.week, e.slot
    LIMIT 1
) b ON true
LEFT JOIN tested t ON t.run_id = b.run_id
ORDER BY w.schedule, w.week;
