SELECT
    cpe_id,
    concept_text,
    concept_vec,  -- 768D GTR-T5 embedding
    tmd_code,     -- 16D TMD metadata
    dataset_source
FROM cpe_entry
WHERE dataset_source = 'user_input'  -- Wikipedia data
LIMIT 10;

SELECT COUNT(*) FROM cpe_entry WHERE dataset_source = 'user_input';

SELECT COUNT(*) FROM cpe_entry WHERE concept_vec IS NOT NULL AND dataset_source = 'user_input';

SELECT tmd_code, COUNT(*) FROM cpe_entry WHERE dataset_source = 'user_input' GROUP BY tmd_code ORDER BY COUNT(*) DESC LIMIT 20;

SELECT COUNT(*) as concepts_with_vectors FROM cpe_entry WHERE concept_vec IS NOT NULL AND dataset_source = 'user_input';

SELECT concept_text, tmd_code FROM cpe_entry WHERE dataset_source = 'user_input' ORDER BY RANDOM() LIMIT 10;

SELECT array_length(concept_vec, 1) as vector_dim FROM cpe_entry WHERE dataset_source = 'user_input' LIMIT 1;

SELECT cpe_id, concept_text, concept_vec, tmd_code
    FROM cpe_entry
    WHERE dataset_source = 'user_input' AND concept_vec IS NOT NULL
    ORDER BY cpe_id;

-- Create a 10K subset
CREATE TABLE cpe_entry_10k AS
SELECT * FROM cpe_entry
WHERE dataset_source = 'user_input'
ORDER BY RANDOM()
LIMIT 10000;
