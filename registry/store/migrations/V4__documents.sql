-- Index documents that are too large for the memory of a process: their parts, compressed, and what they are made of.
create table document_part (
    channel_id bigint not null references channel on delete cascade,
    -- Of the text, the effort and the compressor.
    key bytea not null check (length(key) = 32),
    bytes bytea not null,
    -- When a process last made it.
    kept_at timestamptz not null,
    primary key (channel_id, key)
);
alter table document_part alter column bytes set storage external;

-- What a document was made of when the scope stood at these steps: who comes new reads this, and again only what changed since.
create table document_checkpoint (
    channel_id bigint not null references channel on delete cascade,
    document text not null,
    -- What of the program decides on the parts.
    generation text not null,
    steps bigint[] not null,
    marks bigint[] not null,
    outline bytea not null,
    -- The keys of its parts, which are kept as long as this is.
    parts bytea[] not null,
    saved_at timestamptz not null,
    primary key (channel_id, document, generation)
);
