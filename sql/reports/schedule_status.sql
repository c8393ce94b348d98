-- How far is a schedule: what is done, what is left, and how long will that take?
-- By week and architecture, then each week, each architecture and all together. Waiting: planned or
-- queued; open: its run is chosen when others are done; left out: it has no run, or that was
-- cancelled. Hours used are of training and validation, without interruptions (view run_time).
-- Hours left: a run that is to come is taken to need the mean of those of its architecture that have
-- succeeded in this schedule, or else of all that have; empty while none has. A failed run is not
-- counted: 'lvmdb runs retry' makes it one that is to come. At once: runs with a sign of life in the
-- last five minutes; by the clock: hours left, dealt out to as many (to one if there is none).
-- Share: of the hours used; at the end: of those left as well; the plan gives Mamba-2 30 %.
-- For one schedule: SET lvmdb.schedule = 'first';
WITH entry AS (
    SELECT x.name AS schedule, e.week,
           coalesce(r.architecture,
                    CASE WHEN e.reason IS NULL THEN 'open' ELSE 'left out' END) AS architecture,
           CASE WHEN r.run_id IS NULL AND e.reason IS NULL THEN 'open'
                WHEN r.run_id IS NULL OR r.status = 'cancelled' THEN 'left out'
                WHEN r.status IN ('planned', 'queued') THEN 'waiting'
                ELSE r.status END AS status,
           r.status = 'running' AND r.heartbeat_at > now() - interval '5 minutes' AS alive,
           coalesce(t.seconds, 0) AS used
    FROM schedule_entry e
    JOIN experiment x USING (experiment_id)
    LEFT JOIN experiment_run r ON r.run_id = e.run_id
    LEFT JOIN run_time t ON t.run_id = e.run_id
    WHERE x.name = coalesce(nullif(current_setting('lvmdb.schedule', true), ''), x.name)
), needed AS (
    SELECT schedule, architecture, avg(used) AS seconds
    FROM entry WHERE status = 'succeeded'
    GROUP BY GROUPING SETS ((schedule, architecture), (schedule))
), estimated AS (
    SELECT e.*,
           CASE WHEN e.status NOT IN ('running', 'waiting', 'open') THEN 0
                WHEN every.seconds IS NULL THEN NULL
                -- Of a run that failed and is to go on, part is done already, as of one that runs.
                ELSE greatest(coalesce(own.seconds, every.seconds) - e.used, 0) END AS to_come
    FROM entry e
    LEFT JOIN needed own ON (own.schedule, own.architecture) = (e.schedule, e.architecture)
    LEFT JOIN needed every ON every.schedule = e.schedule AND every.architecture IS NULL
), counted AS (
    SELECT schedule, week, architecture, GROUPING(week, architecture) AS together,
           count(*) AS entries,
           count(*) FILTER (WHERE status = 'succeeded') AS done,
           count(*) FILTER (WHERE status = 'running') AS running,
           count(*) FILTER (WHERE status = 'waiting') AS waiting,
           count(*) FILTER (WHERE status = 'open') AS open,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           count(*) FILTER (WHERE status = 'left out') AS left_out,
           count(*) FILTER (WHERE alive) AS at_once,
           sum(used) / 3600 AS hours_used,
           CASE WHEN bool_and(to_come IS NOT NULL) THEN sum(to_come) / 3600 END AS hours_left
    FROM estimated
    GROUP BY GROUPING SETS ((schedule, week, architecture), (schedule, week),
                            (schedule, architecture), (schedule))
)
SELECT c.schedule, coalesce(c.week::text, 'all') AS week,
       coalesce(c.architecture, 'all') AS architecture,
       c.entries, c.done, c.running, c.waiting, c.open, c.failed, c.left_out,
       round(c.hours_used::numeric, 4) AS hours_used, round(c.hours_left::numeric, 4) AS hours_left,
       CASE WHEN c.together = 3 THEN c.at_once END AS at_once,
       CASE WHEN c.together = 3 THEN round((c.hours_left / greatest(c.at_once, 1))::numeric, 4) END
           AS by_the_clock,
       round((c.hours_used / nullif(whole.hours_used, 0))::numeric, 4) AS share,
       round(((c.hours_used + c.hours_left)
              / nullif(whole.hours_used + whole.hours_left, 0))::numeric, 4) AS share_at_end,
       CASE WHEN c.together = 2 AND c.architecture = 'mamba2' THEN 0.30 END AS share_planned
FROM counted c
JOIN counted whole ON whole.schedule = c.schedule AND whole.together = 3
ORDER BY c.schedule, c.together, c.week, c.architecture;
