-- Where does a run's number come from: code, data, seed, machine, weights?
-- For one run: SET lvmdb.run_id = 7;
SELECT r.run_id AS run, r.architecture, r.seed, r.status,
       s.name AS sequence_set, s.scope, encode(r.sequence_fingerprint, 'hex') AS data_fingerprint,
       r.code_version, r.code_dirty, r.device, r.kernel, r.parameter_count AS parameters,
       r.environment ->> 'python' AS python, r.environment -> 'packages' ->> 'torch' AS torch,
       c.epoch AS best_epoch, encode(c.sha256, 'hex') AS weights_sha256,
       r.parent_run_id AS parent, array_to_string(r.stamps, ' ') AS stamps,
       r.started_at, r.finished_at, r.hyperparameters
FROM experiment_run r
JOIN sequence_set s USING (sequence_set_id)
LEFT JOIN checkpoint c ON c.run_id = r.run_id AND c.kind = 'best'
WHERE r.run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, r.run_id)
ORDER BY r.run_id;
