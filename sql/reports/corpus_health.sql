-- Is every dataset whole and in order?
SELECT * FROM corpus_health ORDER BY dataset_source;
