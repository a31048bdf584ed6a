// An OpenID provider that is not ours: npm oidc-provider with one person, whose
// identity is verified. Prints its address on one line when it listens, and ends
// with its standard input.
//
//   node provider.mjs REDIRECT_URI [client secret]
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [redirect, secret] = process.argv.slice(2);
const person = {
  sub: 'independent-1',
  name: '自称的名字',
  verified_claims: {
    verification: {
      trust_framework: 'cn_rna',
      time: new Date(Date.now() - 3600e3).toISOString(),
      evidence: [{ type: 'document', check_details: [{ check_method: 'vpip' }, { check_method: 'pvp' }], document_details: { type: 'idcard' } }],
    },
    claims: { name: '林若溪', birthdate: '1992-05-14', id_card_number: '119999199205149024' },
  },
};

const listener = createServer();
listener.listen(0, '127.0.0.1', () => {
  const issuer = `http://localhost:${listener.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'portal',
      ...(secret ? { client_secret: secret } : { token_endpoint_auth_method: 'none' }),
      redirect_uris: [redirect],
      application_type: redirect.startsWith('http://localhost') ? 'native' : 'web',
      response_types: ['code'],
      grant_types: ['authorization_code'],
    }],
    claims: { openid: ['sub'], profile: ['name'], verified_claims: null },
    features: { claimsParameter: { enabled: true }, devInteractions: { enabled: true } },
    pkce: { required: () => true },
    cookies: { keys: ['of this test'] },
    async findAccount(ctx, id) {
      return { accountId: id, claims: async () => ({ ...person, sub: id }) };
    },
  });
  listener.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
