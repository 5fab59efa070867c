-- What somebody may do to the registry as a whole, below an admin: null for nothing. An admin needs no role beside.
alter table account add column server_role text check (server_role in ('maintainer', 'member'));
