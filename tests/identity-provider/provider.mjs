// An OpenID Connect provider as companies run one: `node provider.mjs NODE_MODULES SETTINGS`, with the settings as JSON:
// port, client (id, secret, redirect_uris), people (claims by login), keys (a JWK Set with private parts),
// claimsInIdToken. Its own pages ask for a login and take any password. Prints `ready` when it serves.
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const { Provider } = await import(pathToFileURL(join(modules, 'oidc-provider/lib/index.js')));

const provider = new Provider(`http://127.0.0.1:${settings.port}`, {
  clients: [{
    client_id: settings.client.id,
    client_secret: settings.client.secret,
    redirect_uris: settings.client.redirect_uris,
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  jwks: settings.keys,
  cookies: { keys: ['of no worth'] },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email', 'email_verified'] },
  scopes: ['openid', 'profile', 'email'],
  conformIdTokenClaims: !settings.claimsInIdToken,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  findAccount: (ctx, login) => ({
    accountId: login,
    claims: () => ({ sub: `sub-of-${login}`, preferred_username: login, ...settings.people[login] }),
  }),
});
provider.on('server_error', (ctx, error) => console.error(error));
createServer(provider.callback()).listen(settings.port, '127.0.0.1', () => console.log('ready'));
process.on('SIGTERM', () => process.exit(0));
