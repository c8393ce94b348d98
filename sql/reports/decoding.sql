-- From which cosine on is the nearest concept taken for what a vector says, and how good is that?
-- Of each calibration: the hit rate (queries whose nearest concept is as near), the share of hits
-- whose text is the truth's (accuracy) or that are of the truth's article, and milliseconds of a
-- search. Chosen is the best accuracy with a hit rate above 70 %; the newest one is in use. Concepts
-- are those that were searched: where the dataset has grown since, calibrate again.
-- For one run: SET lvmdb.run_id = 7;
WITH sessions AS (
    SELECT session_id, max(run_id) AS run_id FROM decoding_calibration GROUP BY session_id
), newest AS (
    SELECT DISTINCT ON (dataset_source, encoder_id) decoding_calibration_id
    FROM decoding_calibration
    WHERE chosen
    ORDER BY dataset_source, encoder_id, created_at DESC, decoding_calibration_id DESC
)
SELECT c.dataset_source AS dataset, e.name AS encoder, s.name AS sequence_set, c.split,
       c.calibrated_on, c.run_id AS run, c.threshold, c.hits / c.queries::float AS hit_rate,
       c.accuracy, c.same_article, c.queries,
       c.vectors AS concepts, c.environment ->> 'index' AS index,
       round((1000 * c.latency_p50)::numeric, 2) AS p50_ms,
       round((1000 * c.latency_p95)::numeric, 2) AS p95_ms,
       c.chosen, n.decoding_calibration_id IS NOT NULL AS in_use, c.created_at
FROM decoding_calibration c
JOIN sessions USING (session_id)
JOIN encoder e USING (encoder_id)
JOIN sequence_set s USING (sequence_set_id)
LEFT JOIN newest n USING (decoding_calibration_id)
WHERE coalesce(sessions.run_id = nullif(current_setting('lvmdb.run_id', true), '')::bigint,
               nullif(current_setting('lvmdb.run_id', true), '') IS NULL)
ORDER BY c.created_at DESC, c.session_id, c.calibrated_on, c.threshold DESC;
