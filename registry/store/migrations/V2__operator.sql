-- What provisioning needs. Expand only: programs that know V1 alone go on reading and writing beside it.

-- The oldest version of these migrations whose programs may still write. A migration that takes something away
-- raises it.
alter table registry add column oldest_writer integer not null default 1;

alter table channel
    drop constraint channel_state_check,
    -- deleting: nothing is served any more, and bucket and rows are being removed.
    add constraint channel_state_check check (state in ('pending', 'active', 'retired', 'deleting')),
    -- Who removes the channel, and until when nobody else may.
    add column remover uuid,
    add column removal_until timestamptz,
    -- The bucket's settings as they were last set up, so that drift is told from a new wish.
    add column bucket_settings jsonb;
create index channel_by_object on channel (object);
create index channel_unsettled on channel (state) where state in ('pending', 'deleting');

-- Raised each time a worker takes the job and never set back: a worker that lost it cannot end it any more.
alter table job add column runs bigint not null default 0;

-- What is in a channel, counted beside the publishes; `revision` is the one that was counted.
create table channel_stats (
    channel_id bigint primary key references channel on delete cascade,
    packages bigint not null,
    files bigint not null,
    bytes bigint not null,
    last_publish timestamptz,
    revision bigint not null,
    counted_at timestamptz not null,
    -- How long the counting took: the longer, the more rarely.
    took interval not null
);
