"""Sequence sets, splits by article, the views of training examples, and what keeps them frozen.

Revision: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = r"""
CREATE TABLE sequence_set (
    sequence_set_id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    dataset_source TEXT NOT NULL,
    encoder_id BIGINT NOT NULL,
    context_len INTEGER NOT NULL,
    stride INTEGER DEFAULT 1 NOT NULL,
    scope TEXT DEFAULT 'article' NOT NULL,
    train_fraction NUMERIC(5, 4) NOT NULL,
    val_fraction NUMERIC(5, 4) NOT NULL,
    test_fraction NUMERIC(5, 4) NOT NULL,
    seed BIGINT DEFAULT 0 NOT NULL,
    max_concepts INTEGER,
    frozen_at TIMESTAMP WITH TIME ZONE,
    fingerprint BYTEA,
    articles INTEGER,
    concepts INTEGER,
    train_windows INTEGER,
    val_windows INTEGER,
    test_windows INTEGER,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_sequence_set PRIMARY KEY (sequence_set_id),
    CONSTRAINT uq_sequence_set_name UNIQUE (name),
    CONSTRAINT uq_sequence_set_sequence_set_id_dataset_source UNIQUE (sequence_set_id, dataset_source),
    CONSTRAINT uq_sequence_set_sequence_set_id_fingerprint UNIQUE (sequence_set_id, fingerprint),
    CONSTRAINT fk_sequence_set_dataset_source_encoder_id FOREIGN KEY(dataset_source, encoder_id) REFERENCES dataset (dataset_source, encoder_id),
    CONSTRAINT ck_sequence_set_name CHECK (name ~ '^[a-z0-9_-]+$'),
    CONSTRAINT ck_sequence_set_context_len CHECK (context_len >= 1),
    CONSTRAINT ck_sequence_set_stride CHECK (stride >= 1),
    CONSTRAINT ck_sequence_set_scope CHECK (scope IN ('article', 'corpus')),
    CONSTRAINT ck_sequence_set_fractions CHECK (train_fraction > 0 AND val_fraction >= 0 AND test_fraction >= 0 AND train_fraction + val_fraction + test_fraction = 1),
    CONSTRAINT ck_sequence_set_max_concepts CHECK (max_concepts > context_len),
    CONSTRAINT ck_sequence_set_frozen_is_counted CHECK (num_nulls(frozen_at, fingerprint, articles, concepts, train_windows, val_windows, test_windows) IN (0, 7))
);
COMMENT ON TABLE sequence_set IS 'A definition of training examples over one dataset. Frozen, it never changes: its counts and fingerprint are checked whenever a run starts.';
COMMENT ON COLUMN sequence_set.scope IS 'article: no window leaves its article. corpus: windows run across articles and are split in order; it exists only to reproduce old numbers';
COMMENT ON COLUMN sequence_set.max_concepts IS 'at most so many, a seeded sample of whole articles';
COMMENT ON COLUMN sequence_set.frozen_at IS 'from then on nothing of it may change';
COMMENT ON COLUMN sequence_set.fingerprint IS 'SHA-256 over its definition and, in order, source_key, seq, text and vector';

CREATE TABLE sequence_article (
    sequence_set_id BIGINT NOT NULL,
    article_id BIGINT NOT NULL,
    dataset_source TEXT NOT NULL,
    position INTEGER NOT NULL,
    split TEXT,
    concepts INTEGER NOT NULL,
    CONSTRAINT pk_sequence_article PRIMARY KEY (sequence_set_id, article_id),
    CONSTRAINT uq_sequence_article_sequence_set_id_position UNIQUE (sequence_set_id, position),
    CONSTRAINT fk_sequence_article_sequence_set_id_dataset_source FOREIGN KEY(sequence_set_id, dataset_source) REFERENCES sequence_set (sequence_set_id, dataset_source) ON DELETE CASCADE,
    CONSTRAINT fk_sequence_article_article_id_dataset_source FOREIGN KEY(article_id, dataset_source) REFERENCES article (article_id, dataset_source),
    CONSTRAINT ck_sequence_article_split CHECK (split IN ('train', 'val', 'test')),
    CONSTRAINT ck_sequence_article_position CHECK (position >= 0),
    CONSTRAINT ck_sequence_article_concepts CHECK (concepts >= 1)
);
CREATE INDEX ix_sequence_article_article_id ON sequence_article (article_id);
COMMENT ON TABLE sequence_article IS 'The articles of a sequence set, and the split of each.';
COMMENT ON COLUMN sequence_article.position IS 'place in the order that was split';
COMMENT ON COLUMN sequence_article.split IS 'NULL where scope is corpus: there windows are split, not articles';
COMMENT ON COLUMN sequence_article.concepts IS 'how many the article has';

-- A frozen sequence set, its articles and their concepts never change.
CREATE FUNCTION lvmdb_refuse_frozen_set() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF OLD.frozen_at IS NOT NULL AND NEW IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'sequence set % is frozen', OLD.name
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'create another one';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_frozen_set() IS 'Refuses any change of a frozen sequence set.';

CREATE TRIGGER trg_sequence_set_frozen BEFORE UPDATE ON sequence_set
    FOR EACH ROW EXECUTE FUNCTION lvmdb_refuse_frozen_set();

CREATE FUNCTION lvmdb_refuse_frozen_split() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    frozen text;
BEGIN
    -- A freeze that is under way is waited for, and one that an old snapshot cannot see is an error.
    PERFORM FROM sequence_set s
    WHERE s.sequence_set_id IN (SELECT sequence_set_id FROM touched) FOR KEY SHARE;
    SELECT s.name INTO frozen FROM touched t JOIN sequence_set s USING (sequence_set_id)
    WHERE s.frozen_at IS NOT NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'sequence set % is frozen: its articles and splits cannot change', frozen
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'create another one';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_frozen_split() IS 'Refuses any change of the splits of a frozen sequence set.';

CREATE TRIGGER trg_sequence_article_frozen_insert AFTER INSERT ON sequence_article
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();
CREATE TRIGGER trg_sequence_article_frozen_update_old AFTER UPDATE ON sequence_article
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();
CREATE TRIGGER trg_sequence_article_frozen_update_new AFTER UPDATE ON sequence_article
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();
CREATE TRIGGER trg_sequence_article_frozen_delete AFTER DELETE ON sequence_article
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_split();

CREATE FUNCTION lvmdb_refuse_frozen_articles(touched_articles bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    refused record;
BEGIN
    PERFORM FROM sequence_set s
    WHERE s.sequence_set_id IN (
        SELECT sequence_set_id FROM sequence_article WHERE article_id = ANY (touched_articles)
    ) FOR KEY SHARE;
    SELECT s.name, a.source_key INTO refused
    FROM sequence_article sa
    JOIN sequence_set s USING (sequence_set_id)
    JOIN article a ON a.article_id = sa.article_id
    WHERE sa.article_id = ANY (touched_articles) AND s.frozen_at IS NOT NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'article % belongs to the frozen sequence set %', refused.source_key, refused.name
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'load the changed text as another dataset, or delete the sequence set';
    END IF;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_frozen_articles(bigint[]) IS 'Raises an error if any of the articles belongs to a frozen sequence set.';

CREATE FUNCTION lvmdb_refuse_frozen_concepts() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lvmdb_refuse_frozen_articles(
        (SELECT coalesce(array_agg(DISTINCT article_id), '{}') FROM touched)
    );
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_frozen_concepts() IS 'Refuses to add concepts to, or take them from, an article of a frozen set.';

CREATE FUNCTION lvmdb_refuse_frozen_content() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    -- Codes, probes and episodes may be added later; text, order and vector may not change.
    PERFORM lvmdb_refuse_frozen_articles((
        SELECT coalesce(array_agg(DISTINCT article_id), '{}')
        FROM (
            SELECT o.article_id AS old_article, n.article_id AS new_article
            FROM old_rows o FULL JOIN new_rows n USING (cpe_id)
            WHERE (o.article_id, o.seq, o.concept_text, o.encoder_id, o.concept_vec)
                  IS DISTINCT FROM
                  (n.article_id, n.seq, n.concept_text, n.encoder_id, n.concept_vec)
        ) changed, unnest(ARRAY[old_article, new_article]) AS article_id
    ));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_frozen_content() IS 'Refuses to change text, order or vector of a concept of a frozen set.';

CREATE TRIGGER trg_cpe_entry_frozen_insert AFTER INSERT ON cpe_entry
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_concepts();
CREATE TRIGGER trg_cpe_entry_frozen_update AFTER UPDATE ON cpe_entry
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_content();
CREATE TRIGGER trg_cpe_entry_frozen_delete AFTER DELETE ON cpe_entry
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION lvmdb_refuse_frozen_concepts();

CREATE FUNCTION lvmdb_refuse_frozen_article() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF (NEW.source_key, NEW.ordinal, NEW.dataset_source, NEW.article_id)
       IS DISTINCT FROM (OLD.source_key, OLD.ordinal, OLD.dataset_source, OLD.article_id) THEN
        PERFORM lvmdb_refuse_frozen_articles(ARRAY[OLD.article_id]);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lvmdb_refuse_frozen_article() IS 'Refuses to rename or move an article of a frozen set.';

CREATE TRIGGER trg_article_frozen BEFORE UPDATE ON article
    FOR EACH ROW EXECUTE FUNCTION lvmdb_refuse_frozen_article();

-- TRUNCATE fires none of the triggers above.
CREATE FUNCTION lvmdb_refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% cannot be truncated: sequence sets and runs rest on it', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'DELETE what is to go';
END $$;
COMMENT ON FUNCTION lvmdb_refuse_truncate() IS 'Refuses TRUNCATE, which would pass by the guards of frozen data.';

CREATE TRIGGER trg_article_truncate BEFORE TRUNCATE ON article
    EXECUTE FUNCTION lvmdb_refuse_truncate();
CREATE TRIGGER trg_cpe_entry_truncate BEFORE TRUNCATE ON cpe_entry
    EXECUTE FUNCTION lvmdb_refuse_truncate();
CREATE TRIGGER trg_sequence_set_truncate BEFORE TRUNCATE ON sequence_set
    EXECUTE FUNCTION lvmdb_refuse_truncate();
CREATE TRIGGER trg_sequence_article_truncate BEFORE TRUNCATE ON sequence_article
    EXECUTE FUNCTION lvmdb_refuse_truncate();

-- What a training example is. The stream is a fast executor of this definition.
CREATE VIEW training_sequence AS
WITH placed AS (
    -- Scope corpus: all concepts in one row of places, and the windows numbered along it.
    SELECT s.sequence_set_id, s.name, s.context_len, s.stride, s.train_fraction, s.val_fraction,
           c.article_id, c.seq, c.cpe_id,
           row_number() OVER corpus_order - 1 AS place,
           count(*) OVER (PARTITION BY s.sequence_set_id) AS places
    FROM sequence_set s
    JOIN sequence_article sa USING (sequence_set_id)
    JOIN cpe_entry c USING (article_id)
    WHERE s.scope = 'corpus'
    WINDOW corpus_order AS (PARTITION BY s.sequence_set_id ORDER BY sa.position, c.seq)
), numbered AS (
    SELECT *, (place - context_len) / stride AS window_no,
           (places - context_len + stride - 1) / stride AS windows
    FROM placed
)
SELECT s.sequence_set_id, s.name AS sequence_set, sa.split, t.article_id, t.seq AS target_seq,
       t.cpe_id AS target_cpe_id, context.cpe_ids AS context_cpe_ids
FROM sequence_set s
JOIN sequence_article sa USING (sequence_set_id)
JOIN cpe_entry t ON t.article_id = sa.article_id
    AND t.seq >= s.context_len AND (t.seq - s.context_len) % s.stride = 0
CROSS JOIN LATERAL (
    SELECT array_agg(c.cpe_id ORDER BY c.seq) AS cpe_ids
    FROM cpe_entry c
    WHERE c.article_id = t.article_id AND c.seq BETWEEN t.seq - s.context_len AND t.seq - 1
) context
WHERE s.scope = 'article'
UNION ALL
SELECT t.sequence_set_id, t.name,
       CASE WHEN t.window_no < floor(t.train_fraction * t.windows) THEN 'train'
            WHEN t.window_no < floor((t.train_fraction + t.val_fraction) * t.windows) THEN 'val'
            ELSE 'test' END,
       t.article_id, t.seq, t.cpe_id, array_agg(c.cpe_id ORDER BY c.place)
FROM numbered t
CROSS JOIN LATERAL generate_series(1, t.context_len) AS lag
JOIN placed c ON c.sequence_set_id = t.sequence_set_id AND c.place = t.place - lag
WHERE t.place >= t.context_len AND (t.place - t.context_len) % t.stride = 0
GROUP BY t.sequence_set_id, t.name, t.window_no, t.windows, t.train_fraction, t.val_fraction,
         t.article_id, t.seq, t.cpe_id;
COMMENT ON VIEW training_sequence IS 'The definition of a training example: a target concept and the context_len concepts before it.';

CREATE VIEW training_sequence_vector AS
SELECT w.*, t.concept_vec AS target_vec, context.vecs AS context_vecs
FROM training_sequence w
JOIN cpe_entry t ON t.cpe_id = w.target_cpe_id
CROSS JOIN LATERAL (
    SELECT array_agg(c.concept_vec ORDER BY place) AS vecs
    FROM unnest(w.context_cpe_ids) WITH ORDINALITY AS member (cpe_id, place)
    JOIN cpe_entry c USING (cpe_id)
) context;
COMMENT ON VIEW training_sequence_vector IS 'training_sequence with the vectors themselves.';
"""

DOWNGRADE = """
DROP VIEW training_sequence_vector;
DROP VIEW training_sequence;
DROP TRIGGER trg_article_truncate ON article;
DROP TRIGGER trg_cpe_entry_truncate ON cpe_entry;
DROP TRIGGER trg_article_frozen ON article;
DROP TRIGGER trg_cpe_entry_frozen_insert ON cpe_entry;
DROP TRIGGER trg_cpe_entry_frozen_update ON cpe_entry;
DROP TRIGGER trg_cpe_entry_frozen_delete ON cpe_entry;
DROP TABLE sequence_article, sequence_set;
DROP FUNCTION lvmdb_refuse_truncate();
DROP FUNCTION lvmdb_refuse_frozen_article();
DROP FUNCTION lvmdb_refuse_frozen_content();
DROP FUNCTION lvmdb_refuse_frozen_concepts();
DROP FUNCTION lvmdb_refuse_frozen_articles(bigint[]);
DROP FUNCTION lvmdb_refuse_frozen_split();
DROP FUNCTION lvmdb_refuse_frozen_set();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
