-- What is each run worth, and is it better than the best baseline?
-- Intervals are of 95 %, from drawing articles with replacement; gains are paired with the best
-- baseline of the same set, split and pool. Better and worse: the interval of the gain is on one
-- side of zero. The margin is shown, but decides nothing: that of random vectors is the best there
-- is. Flags are what anyone who reads the numbers must know.
-- For one run: SET lvmdb.run_id = 7;
SELECT sequence_set, split, run_id AS run, architecture, loss, seed,
       round(cosine::numeric, 4) AS cosine,
       '[' || round(cosine_low::numeric, 4) || ', ' || round(cosine_high::numeric, 4) || ']'
           AS cosine_interval,
       round(cosine_gain::numeric, 4) AS cosine_gain,
       '[' || round(cosine_gain_low::numeric, 4) || ', '
           || round(cosine_gain_high::numeric, 4) || ']' AS gain_interval,
       cosine_verdict AS verdict, best_baseline_by_cosine AS best_baseline,
       round(mrr_10::numeric, 4) AS mrr_10,
       round(mrr_10_gain::numeric, 4) AS mrr_gain,
       mrr_10_verdict AS mrr_verdict,
       round(recall_1::numeric, 4) AS r_1,
       round(recall_5::numeric, 4) AS r_5,
       round(recall_10::numeric, 4) AS r_10,
       round(margin::numeric, 4) AS margin,
       queries, articles, pool_size AS pool, array_to_string(flags, ' ') AS flags
FROM run_leaderboard
WHERE run_id = coalesce(nullif(current_setting('lvmdb.run_id', true), '')::bigint, run_id)
ORDER BY sequence_set, split, cosine DESC, run_id;
