-- Refusals beside writes, and what reading and pruning the audit need. Expand only.

alter table audit
    -- How often a refusal came within its minute; a write has a row of its own each time.
    add column times integer not null default 1,
    -- Of a refusal: the digest of who was refused what in which minute. By it all pods count in one row.
    add column refusal bytea check (length(refusal) = 32);
create unique index audit_one_refusal on audit (refusal) where refusal is not null;

-- Newest first within each, by an order that the primary key does not have: Postgres would rather read the whole table
-- backwards, in the belief that enough of the wanted rows come soon, and of a quiet channel they do not. Of a workload,
-- the actor is a text that somebody else made, and an index has limits.
create index audit_by_actor on audit (left(actor, 128), (-id));
create index audit_by_channel on audit (channel, (-id));
create index audit_by_package on audit (package, (-id)) where package is not null;
create index audit_refused on audit (id) where outcome = 'refused';

create index usage_day_by_day on usage_day (day);
