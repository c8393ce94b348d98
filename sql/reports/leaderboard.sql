-- What is each run worth, and how far is it from the best baseline?
-- The margin is shown, but decides nothing: that of random vectors is the best there is.
-- For one run: SET lvmdb.run_id = 7;
SELECT sequence_set, split, run_id AS run, architecture, loss, seed,
       round(cosine::numeric, 4) AS cosine,
       round(cosine_gain::numeric, 4) AS cosine_gain,
       round(mrr_10::numeric, 4) AS mrr_10,
       round(mrr_10_gain::numeric, 4) AS mrr_gain,
       round(recall_1::numeric, 4) AS r_1,
       round(recall_5::numeric, 4) AS r_5,
       round(recall_10::numeric, 4) AS r_10,
       round(margin::numeric, 4) AS margin,
       round(mse::numeric, 6) AS mse,
       queries, pool_size AS pool, array_to_string(stamps, ' ') AS stamps
FROM run_leaderboard
WHERE run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, run_id)
ORDER BY sequence_set, split, cosine DESC, run_id;
