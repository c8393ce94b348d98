-- How much do runs of one configuration differ by their seed alone?
-- Spread is the standard deviation over seeds; empty with one seed.
SELECT sequence_set, split, architecture, loss, seeds,
       round(cosine::numeric, 4) AS cosine, round(cosine_spread::numeric, 4) AS cosine_spread,
       round(cosine_min::numeric, 4) AS cosine_min, round(cosine_max::numeric, 4) AS cosine_max,
       round(mrr_10::numeric, 4) AS mrr_10, round(mrr_10_spread::numeric, 4) AS mrr_spread,
       round(recall_5::numeric, 4) AS r_5, round(recall_5_spread::numeric, 4) AS r_5_spread,
       round(cosine_gain::numeric, 4) AS cosine_gain, round(mrr_10_gain::numeric, 4) AS mrr_gain,
       array_to_string(run_ids, ' ') AS runs, hyperparameters
FROM run_group
ORDER BY sequence_set, split, cosine DESC;
