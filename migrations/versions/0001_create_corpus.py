"""Datasets, articles in their order, concepts with vectors, encoders, ingest jobs.

Revision: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = r"""
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE encoder (
    encoder_id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    revision TEXT,
    pooling TEXT,
    normalised BOOLEAN,
    dimension INTEGER DEFAULT 768 NOT NULL,
    max_tokens INTEGER,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_encoder PRIMARY KEY (encoder_id),
    CONSTRAINT uq_encoder_name UNIQUE (name),
    CONSTRAINT ck_encoder_dimension CHECK (dimension = 768)
);
COMMENT ON TABLE encoder IS 'A model that turns text into vectors. Without rows in encoder_probe it is known by name alone, and nothing may be encoded beside its vectors.';
COMMENT ON COLUMN encoder.revision IS 'SHA-256 of the weights, or the revision at their source';
COMMENT ON COLUMN encoder.pooling IS 'how token states become one vector; NULL if not known';
COMMENT ON COLUMN encoder.normalised IS 'whether the model itself ends in a normalisation';
COMMENT ON COLUMN encoder.max_tokens IS 'texts are cut after so many tokens';

CREATE TABLE encoder_probe (
    encoder_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    sentence TEXT NOT NULL,
    probe_vec VECTOR(768) NOT NULL,
    CONSTRAINT pk_encoder_probe PRIMARY KEY (encoder_id, ordinal),
    CONSTRAINT fk_encoder_probe_encoder_id FOREIGN KEY(encoder_id) REFERENCES encoder (encoder_id) ON DELETE CASCADE
);
COMMENT ON TABLE encoder_probe IS 'An encoder''s fingerprint: its vectors of fixed sentences. A loaded model must give these again before it may encode.';

CREATE TABLE dataset (
    dataset_source TEXT NOT NULL,
    encoder_id BIGINT,
    unverified BOOLEAN DEFAULT false NOT NULL,
    title TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_dataset PRIMARY KEY (dataset_source),
    CONSTRAINT uq_dataset_dataset_source_encoder_id UNIQUE (dataset_source, encoder_id),
    CONSTRAINT ck_dataset_dataset_source CHECK (dataset_source ~ '^[a-z0-9_-]+$'),
    CONSTRAINT fk_dataset_encoder_id FOREIGN KEY(encoder_id) REFERENCES encoder (encoder_id)
);
COMMENT ON TABLE dataset IS 'A corpus: articles in their order, all of whose vectors come from one encoder.';
COMMENT ON COLUMN dataset.encoder_id IS 'the one encoder of all its vectors; NULL while it has none';
COMMENT ON COLUMN dataset.unverified IS 'vectors were imported, and no model has been held against them since';

CREATE TABLE article (
    article_id BIGINT GENERATED ALWAYS AS IDENTITY,
    dataset_source TEXT NOT NULL,
    source_key TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    title TEXT NOT NULL,
    url TEXT,
    content_hash BYTEA NOT NULL,
    text_hash BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_article PRIMARY KEY (article_id),
    CONSTRAINT uq_article_dataset_source_source_key UNIQUE (dataset_source, source_key),
    CONSTRAINT uq_article_dataset_source_ordinal UNIQUE (dataset_source, ordinal),
    CONSTRAINT uq_article_article_id_dataset_source UNIQUE (article_id, dataset_source),
    CONSTRAINT ck_article_ordinal CHECK (ordinal >= 0),
    CONSTRAINT fk_article_dataset_source FOREIGN KEY(dataset_source) REFERENCES dataset (dataset_source)
);
COMMENT ON TABLE article IS 'One text of a dataset.';
COMMENT ON COLUMN article.source_key IS 'what the source calls the article';
COMMENT ON COLUMN article.ordinal IS 'its place in the corpus, from 0, no gaps';
COMMENT ON COLUMN article.content_hash IS 'SHA-256 of what its concepts were made from: text, chunker, encoder and their options; for imports, texts and vectors';
COMMENT ON COLUMN article.text_hash IS 'SHA-256 of its concepts'' texts in order: equal for identical articles';

CREATE TABLE episode (
    episode_id BIGINT GENERATED ALWAYS AS IDENTITY,
    article_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    coherence REAL,
    CONSTRAINT pk_episode PRIMARY KEY (episode_id),
    CONSTRAINT uq_episode_article_id_ordinal UNIQUE (article_id, ordinal),
    CONSTRAINT ck_episode_ordinal CHECK (ordinal >= 0),
    CONSTRAINT ck_episode_seq CHECK (0 <= first_seq AND first_seq <= last_seq),
    CONSTRAINT fk_episode_article_id FOREIGN KEY(article_id) REFERENCES article (article_id) ON DELETE CASCADE
);
COMMENT ON TABLE episode IS 'A run of neighbouring concepts of one article that belong together.';
COMMENT ON COLUMN episode.coherence IS 'mean cosine of adjacent concepts';

CREATE TABLE tmd_label (
    vocabulary SMALLINT NOT NULL,
    kind TEXT NOT NULL,
    code SMALLINT NOT NULL,
    label TEXT NOT NULL,
    CONSTRAINT pk_tmd_label PRIMARY KEY (vocabulary, kind, code),
    CONSTRAINT uq_tmd_label_vocabulary_kind_label UNIQUE (vocabulary, kind, label),
    CONSTRAINT ck_tmd_label_kind CHECK (kind IN ('domain', 'task', 'modifier')),
    CONSTRAINT ck_tmd_label_code CHECK (code >= 0)
);
COMMENT ON TABLE tmd_label IS 'What the numbers of a domain/task/modifier code mean. A vocabulary never changes.';

CREATE TABLE cpe_entry (
    cpe_id UUID NOT NULL,
    article_id BIGINT NOT NULL,
    episode_id BIGINT,
    seq INTEGER NOT NULL,
    concept_text TEXT NOT NULL,
    probe_question TEXT,
    probe_vec VECTOR(768),
    expected_answer TEXT,
    soft_negatives TEXT[],
    hard_negatives TEXT[],
    domain_code SMALLINT,
    task_code SMALLINT,
    modifier_code SMALLINT,
    tmd_code TEXT GENERATED ALWAYS AS (domain_code::text || '.' || task_code::text || '.' || modifier_code::text) STORED,
    tmd_source TEXT,
    tmd_vec VECTOR(16),
    concept_vec VECTOR(768) STORAGE PLAIN,
    encoder_id BIGINT,
    dataset_source TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_cpe_entry PRIMARY KEY (cpe_id),
    CONSTRAINT uq_cpe_entry_article_id_seq UNIQUE (article_id, seq),
    CONSTRAINT fk_cpe_entry_article_id_dataset_source FOREIGN KEY(article_id, dataset_source) REFERENCES article (article_id, dataset_source) ON DELETE CASCADE,
    CONSTRAINT fk_cpe_entry_dataset_source_encoder_id FOREIGN KEY(dataset_source, encoder_id) REFERENCES dataset (dataset_source, encoder_id),
    CONSTRAINT ck_cpe_entry_seq CHECK (seq >= 0),
    CONSTRAINT ck_cpe_entry_concept_text CHECK (concept_text <> ''),
    CONSTRAINT ck_cpe_entry_vector_has_encoder CHECK ((concept_vec IS NULL) = (encoder_id IS NULL)),
    CONSTRAINT ck_cpe_entry_concept_vec_norm CHECK (vector_norm(concept_vec) BETWEEN 0.99 AND 1.01),
    CONSTRAINT ck_cpe_entry_probe_vec_norm CHECK (vector_norm(probe_vec) BETWEEN 0.99 AND 1.01),
    CONSTRAINT ck_cpe_entry_tmd_vec_norm CHECK (vector_norm(tmd_vec) BETWEEN 0.99 AND 1.01),
    CONSTRAINT ck_cpe_entry_domain_code CHECK (domain_code BETWEEN 0 AND 15),
    CONSTRAINT ck_cpe_entry_task_code CHECK (task_code BETWEEN 0 AND 31),
    CONSTRAINT ck_cpe_entry_modifier_code CHECK (modifier_code BETWEEN 0 AND 63),
    CONSTRAINT ck_cpe_entry_tmd_source CHECK (tmd_source IN ('given', 'embedding', 'llm')),
    CONSTRAINT ck_cpe_entry_tmd_has_source CHECK ((domain_code IS NULL) = (tmd_source IS NULL)),
    CONSTRAINT fk_cpe_entry_episode_id FOREIGN KEY(episode_id) REFERENCES episode (episode_id) ON DELETE SET NULL
)
-- Without the target every text would be moved out of line, and reading in order be slower.
WITH (toast_tuple_target = 8160);
CREATE INDEX ix_cpe_entry_episode_id ON cpe_entry (episode_id);
CREATE INDEX ix_cpe_entry_dataset_source ON cpe_entry (dataset_source);
COMMENT ON TABLE cpe_entry IS 'The concept: one passage of an article, its place, its vector and its code.';
COMMENT ON COLUMN cpe_entry.cpe_id IS 'UUIDv5 of dataset, article key, seq and text: the same concept, the same id';
COMMENT ON COLUMN cpe_entry.seq IS 'place within the article, from 0, no gaps';
COMMENT ON COLUMN cpe_entry.domain_code IS '0 to 15, see tmd_label; NULL means unknown';
COMMENT ON COLUMN cpe_entry.task_code IS '0 to 31, see tmd_label; NULL means unknown';
COMMENT ON COLUMN cpe_entry.modifier_code IS '0 to 63, see tmd_label; NULL means unknown';
COMMENT ON COLUMN cpe_entry.tmd_code IS 'domain.task.modifier; NULL when any of them is unknown';
COMMENT ON COLUMN cpe_entry.tmd_source IS 'who decided the code: given, embedding or llm';
COMMENT ON COLUMN cpe_entry.tmd_vec IS 'dense form of the code, unit norm';
COMMENT ON COLUMN cpe_entry.concept_vec IS 'unit norm; stored PLAIN, since training reads it whole and in order';

CREATE TABLE ingest_job (
    job_id BIGINT GENERATED ALWAYS AS IDENTITY,
    dataset_source TEXT NOT NULL,
    reader TEXT NOT NULL,
    source TEXT NOT NULL,
    options JSONB NOT NULL,
    status TEXT DEFAULT 'running' NOT NULL,
    articles INTEGER DEFAULT 0 NOT NULL,
    concepts INTEGER DEFAULT 0 NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_ingest_job PRIMARY KEY (job_id),
    CONSTRAINT ck_ingest_job_status CHECK (status IN ('running', 'succeeded', 'failed')),
    CONSTRAINT fk_ingest_job_dataset_source FOREIGN KEY(dataset_source) REFERENCES dataset (dataset_source)
);
COMMENT ON TABLE ingest_job IS 'One call of `lvmdb ingest run` or `lvmdb import vectors`.';

CREATE TABLE ingest_error (
    error_id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id BIGINT NOT NULL,
    source_key TEXT,
    step TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_ingest_error PRIMARY KEY (error_id),
    CONSTRAINT fk_ingest_error_job_id FOREIGN KEY(job_id) REFERENCES ingest_job (job_id) ON DELETE CASCADE
);
CREATE INDEX ix_ingest_error_job_id ON ingest_error (job_id);
COMMENT ON TABLE ingest_error IS 'What could not be ingested, and why. Nothing of such an article is kept.';
COMMENT ON COLUMN ingest_error.source_key IS 'the article; NULL where it could not be read at all';

CREATE TABLE pipeline_timing (
    job_id BIGINT NOT NULL,
    step TEXT NOT NULL,
    items BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_pipeline_timing PRIMARY KEY (job_id, step),
    CONSTRAINT fk_pipeline_timing_job_id FOREIGN KEY(job_id) REFERENCES ingest_job (job_id) ON DELETE CASCADE
);
COMMENT ON TABLE pipeline_timing IS 'How long each step of an ingest took, and for how many items.';

INSERT INTO tmd_label (vocabulary, kind, code, label)
SELECT 1, kind, place - 1, label
FROM (VALUES
    ('domain', '{"Science", "Mathematics", "Technology", "Engineering", "Medicine", "Psychology",
     "Philosophy", "History", "Literature", "Art", "Economics", "Law", "Politics", "Education",
     "Environment", "Software"}'::text[]),
    ('task', '{"Fact Retrieval", "Definition Matching", "Analogical Reasoning", "Causal Inference",
     "Classification", "Entity Recognition", "Relationship Extraction", "Schema Adherence",
     "Summarization", "Paraphrasing", "Translation", "Sentiment Analysis",
     "Argument Evaluation", "Hypothesis Testing", "Code Generation", "Function Calling",
     "Mathematical Proof", "Diagram Interpretation", "Temporal Reasoning", "Spatial Reasoning",
     "Ethical Evaluation", "Policy Recommendation", "Roleplay Simulation", "Creative Writing",
     "Instruction Following", "Error Detection", "Output Repair", "Question Generation",
     "Conceptual Mapping", "Knowledge Distillation", "Tool Use", "Prompt Completion"}'::text[]),
    ('modifier', '{"Biochemical", "Evolutionary", "Computational", "Logical", "Ethical", "Historical", "Legal",
     "Philosophical", "Emotional", "Technical", "Creative", "Abstract", "Concrete", "Visual",
     "Auditory", "Spatial", "Temporal", "Quantitative", "Qualitative", "Procedural",
     "Declarative", "Comparative", "Analogical", "Causal", "Hypothetical", "Experimental",
     "Narrative", "Descriptive", "Prescriptive", "Diagnostic", "Predictive", "Reflective",
     "Strategic", "Tactical", "Symbolic", "Functional", "Structural", "Semantic", "Syntactic",
     "Pragmatic", "Normative", "Statistical", "Probabilistic", "Deterministic", "Stochastic",
     "Modular", "Hierarchical", "Distributed", "Localized", "Global", "Contextual",
     "Generalized", "Specialized", "Interdisciplinary", "Multimodal", "Ontological",
     "Epistemic", "Analog-sensitive", "Schema-bound", "Role-based", "Feedback-driven",
     "Entailment-aware", "Alignment-focused", "Compression-optimized"}'::text[])
) AS vocabulary (kind, labels),
unnest(labels) WITH ORDINALITY AS entry (label, place);

-- The length of a vector, as people ask for it of an array.
CREATE FUNCTION array_length(vector, integer) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN $2 = 1 THEN vector_dims($1) END;
COMMENT ON FUNCTION array_length(vector, integer) IS 'Dimensions of a vector, for SQL that expects an array.';

CREATE FUNCTION lvmdb_refuse_seq_gap() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    touched_article bigint;
    concepts bigint;
    last_seq integer;
BEGIN
    -- In one order, so that two statements do not wait for each other.
    FOR touched_article IN SELECT DISTINCT article_id FROM touched ORDER BY article_id LOOP
        -- Whoever else changes this article waits, and then counts what is there.
        PERFORM FROM article WHERE article_id = touched_article FOR NO KEY UPDATE;
        SELECT count(*), max(seq) INTO concepts, last_seq
        FROM cpe_entry WHERE article_id = touched_article;
        IF concepts <> coalesce(last_seq, -1) + 1 THEN
            RAISE EXCEPTION 'article % would have a gap in its order: % concepts, last seq %',
                touched_article, concepts, last_seq
                USING ERRCODE = 'integrity_constraint_violation',
                      HINT = 'write the concepts of an article together, numbered from 0';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_seq_gap() IS 'Keeps the concepts of an article numbered 0, 1, 2 ...';

CREATE TRIGGER trg_cpe_entry_seq_insert AFTER INSERT ON cpe_entry
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_seq_gap();
CREATE TRIGGER trg_cpe_entry_seq_update_old AFTER UPDATE ON cpe_entry
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_seq_gap();
CREATE TRIGGER trg_cpe_entry_seq_update_new AFTER UPDATE ON cpe_entry
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_seq_gap();
CREATE TRIGGER trg_cpe_entry_seq_delete AFTER DELETE ON cpe_entry
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_seq_gap();

CREATE FUNCTION lvmdb_refuse_ordinal_gap() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    -- Each article needs its predecessor: by induction there is no gap, at one look-up a row.
    IF EXISTS (
        SELECT FROM touched t
        WHERE EXISTS (
            SELECT FROM article a
            WHERE a.dataset_source = t.dataset_source AND a.ordinal BETWEEN t.ordinal AND t.ordinal + 1
              AND a.ordinal > 0
              AND NOT EXISTS (
                  SELECT FROM article p
                  WHERE p.dataset_source = a.dataset_source AND p.ordinal = a.ordinal - 1
              )
        )
    ) THEN
        RAISE EXCEPTION 'the articles of a dataset would have a gap in their order'
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'number the articles of a dataset from 0, and remove only the last ones';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_ordinal_gap() IS 'Keeps the articles of a dataset numbered 0, 1, 2 ...';

CREATE TRIGGER trg_article_ordinal_insert AFTER INSERT ON article
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_ordinal_gap();
CREATE TRIGGER trg_article_ordinal_update_old AFTER UPDATE ON article
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_ordinal_gap();
CREATE TRIGGER trg_article_ordinal_update_new AFTER UPDATE ON article
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_ordinal_gap();
CREATE TRIGGER trg_article_ordinal_delete AFTER DELETE ON article
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_ordinal_gap();
"""

DOWNGRADE = """
DROP TABLE pipeline_timing, ingest_error, ingest_job, cpe_entry, tmd_label, episode, article, dataset,
    encoder_probe, encoder;
DROP FUNCTION lvmdb_refuse_ordinal_gap();
DROP FUNCTION lvmdb_refuse_seq_gap();
DROP FUNCTION array_length(vector, integer);
-- The extension stays: other schemas of the database may use it.
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
