-- How are domain/task/modifier codes distributed over each dataset?
SELECT c.dataset_source, c.tmd_code, d.label AS domain, t.label AS task, m.label AS modifier,
       count(*) AS concepts
FROM cpe_entry c
LEFT JOIN tmd_label d ON (d.vocabulary, d.kind, d.code) = (1, 'domain', c.domain_code)
LEFT JOIN tmd_label t ON (t.vocabulary, t.kind, t.code) = (1, 'task', c.task_code)
LEFT JOIN tmd_label m ON (m.vocabulary, m.kind, m.code) = (1, 'modifier', c.modifier_code)
GROUP BY c.dataset_source, c.tmd_code, d.label, t.label, m.label
ORDER BY c.dataset_source, concepts DESC, c.tmd_code;
