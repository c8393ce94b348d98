-- What training measured, for use elsewhere.

-- name: of_runs
-- Every number of these runs, in the order in which training took them.
SELECT m.run_id AS run, r.architecture, r.seed, m.split, m.name, m.step, m.epoch, m.value,
       m.recorded_at
FROM run_metric m
JOIN experiment_run r USING (run_id)
WHERE m.run_id = ANY (:run_ids ::bigint[])
ORDER BY m.run_id, m.step, m.split, m.name;

-- name: runs
-- What these runs are.
SELECT r.run_id AS run, r.kind, r.architecture, r.loss, r.seed, r.status, s.name AS sequences,
       encode(r.sequence_fingerprint, 'hex') AS data_fingerprint, r.code_version, r.device,
       r.kernel, r.parameter_count AS parameters, array_to_string(r.stamps, ' ') AS stamps,
       r.parent_run_id AS parent, r.hyperparameters, r.created_at
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
WHERE r.run_id = ANY (:run_ids ::bigint[])
ORDER BY r.run_id;
