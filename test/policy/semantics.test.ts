/** What policies mean, one rule a test: isolation, selectors, ranges and ports. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { allowed, ask, kubernetes, simulate } from './ask.ts';

const workloads = [
  { name: 'web', labels: { app: 'web' }, ip: '10.200.1.1', ports: [{ name: 'http', port: 8080 }] },
  { name: 'api', labels: { app: 'api', tier: 'back' }, ip: '10.200.1.2', ports: [{ name: 'http', port: 80 }, { name: 'dns', port: 53, protocol: 'udp' as const }] },
  { name: 'db', labels: { app: 'db', tier: 'back' }, ip: '10.200.1.3', ports: [{ name: 'sql', port: 5432 }] },
  { namespace: 'shop', name: 'web', labels: { app: 'web' }, ip: '10.200.2.1', ports: [] },
];
const namespaces = [{ name: 'shop', labels: { team: 'sales' } }];
/** Over the four workloads above. */
const over = (...policies: Record<string, unknown>[]) => ({ namespaces, workloads, policies });
const INTO_DB = ['web -> db 5432', 'api -> db 5432', 'shop/web -> db 5432', '1.2.3.4 -> db 5432'];

describe('isolation', () => {
  test('without a policy everyone reaches everyone', () => {
    assert.deepEqual(allowed(over(), INTO_DB), INTO_DB);
    assert.match(ask(over(), 'web -> db 5432').reason, /no policy isolates/);
  });

  test('a policy isolates only what it selects, and only in its own namespace', () => {
    const given = over({ name: 'p', selector: { app: 'web' }, ingress: [] });
    assert.deepEqual(allowed(given, ['db -> web 1', 'db -> shop/web 1', 'db -> api 1']), ['db -> shop/web 1', 'db -> api 1']);
  });

  test('a policy without a selector isolates its whole namespace', () => {
    for (const selector of [{}, { selector: {} }]) assert.deepEqual(allowed(over({ name: 'p', ...selector, ingress: [] }), ['db -> web 1', 'web -> db 1', 'web -> shop/web 1']), ['web -> shop/web 1']);
  });

  test('isolating one direction leaves the other one open', () => {
    const given = over({ name: 'p', selector: { app: 'db' }, ingress: [] });
    assert.deepEqual(allowed(given, ['web -> db 1', 'db -> web 1']), ['db -> web 1']);
    const { ingress, egress, verdict } = ask(given, 'web -> db 1');
    assert.deepEqual({ ingress, egress, verdict }, { ingress: 'deny', egress: 'allow', verdict: 'deny' });
  });

  test('a direction whose key is absent is not touched, an empty one denies everything', () => {
    assert.deepEqual(allowed(over({ name: 'p' }), ['web -> db 1', 'db -> web 1']), ['web -> db 1', 'db -> web 1']);
    assert.deepEqual(allowed(over({ name: 'p', ingress: [], egress: [] }), ['web -> 1.2.3.4 1', '1.2.3.4 -> web 1']), []);
  });

  test('an empty rule allows everything, also what was isolated by another policy', () => {
    const given = over({ name: 'none', ingress: [] }, { name: 'all', selector: { app: 'db' }, ingress: [{}] });
    assert.deepEqual(allowed(given, [...INTO_DB, 'web -> api 1']), INTO_DB);
  });

  test('the policies of one direction add up', () => {
    const rule = (app: string, port: number) => ({ name: `from-${app}`, selector: { app: 'db' }, ingress: [{ port, from: { selector: { app } } }] });
    const given = over(rule('web', 1), rule('api', 2));
    assert.deepEqual(allowed(given, ['web -> db 1', 'web -> db 2', 'api -> db 1', 'api -> db 2']), ['web -> db 1', 'api -> db 2']);
  });

  test('both the egress of the source and the ingress of the destination must allow', () => {
    const egress = { name: 'e', selector: { app: 'web' }, egress: [{ port: 1, to: { selector: { app: 'db' } } }, { port: 2, to: { selector: { app: 'db' } } }] };
    const ingress = { name: 'i', selector: { app: 'db' }, ingress: [{ port: 2 }, { port: 3 }] };
    assert.deepEqual(allowed(over(egress, ingress), ['web -> db 1', 'web -> db 2', 'web -> db 3']), ['web -> db 2']);
  });

  test('a workload always reaches itself, also by its address', () => {
    const given = over({ name: 'p', ingress: [], egress: [] });
    assert.deepEqual(allowed(given, ['db -> db 5432', 'db -> 10.200.1.3 5432', '10.200.1.3 -> db 5432', 'web -> db 5432']), ['db -> db 5432', 'db -> 10.200.1.3 5432', '10.200.1.3 -> db 5432']);
  });
});

describe('the Kubernetes form', () => {
  const BOTH = ['1.2.3.4 -> db 1', 'db -> 1.2.3.4 1'];
  const [IN, OUT] = ['1.2.3.4 -> db 1', 'db -> 1.2.3.4 1'];
  const spec = (rest: Record<string, unknown>) => over(kubernetes({ podSelector: { matchLabels: { app: 'db' } }, ...rest }));

  test('without policyTypes ingress is isolated, and egress when there is an egress key', () => {
    assert.deepEqual(allowed(spec({}), BOTH), [OUT]);
    assert.deepEqual(allowed(spec({ policyTypes: [] }), BOTH), [OUT]);
    assert.deepEqual(allowed(spec({ egress: [] }), BOTH), []);
    assert.deepEqual(allowed(spec({ egress: [{}] }), BOTH), [OUT]);
    assert.deepEqual(allowed(spec({ ingress: [{}] }), BOTH), BOTH);
  });

  test('a type whose rules are missing denies', () => {
    assert.deepEqual(allowed(spec({ policyTypes: ['Ingress'] }), BOTH), [OUT]);
    assert.deepEqual(allowed(spec({ policyTypes: ['Egress'] }), BOTH), [IN]);
    assert.deepEqual(allowed(spec({ policyTypes: ['Ingress', 'Egress'], ingress: [{}] }), BOTH), [IN]);
  });

  test('rules of a direction that is not among the types do nothing', () => {
    assert.deepEqual(allowed(spec({ policyTypes: ['Egress'], ingress: [] }), BOTH), [IN]);
    assert.deepEqual(allowed(spec({ policyTypes: ['Ingress'], ingress: [{}], egress: [{ ports: [{ port: 2 }] }] }), BOTH), BOTH);
  });

  test('null and empty lists of peers and ports stand for all of them', () => {
    for (const empty of [null, []]) assert.deepEqual(allowed(spec({ policyTypes: null, ingress: [{ from: empty, ports: empty }] }), [IN]), [IN]);
    assert.deepEqual(allowed(spec({ ingress: null }), [IN]), []);
  });
});

describe('selectors', () => {
  const from = (...peers: Record<string, unknown>[]) => over(kubernetes({ podSelector: { matchLabels: { app: 'db' } }, ingress: [{ from: peers }] }));
  const [WEB = '', API = '', SHOP = '', OUTSIDE = ''] = INTO_DB;

  test('a podSelector alone means the own namespace, with an empty one all of it', () => {
    assert.deepEqual(allowed(from({ podSelector: { matchLabels: { app: 'web' } } }), INTO_DB), [WEB]);
    assert.deepEqual(allowed(from({ podSelector: {} }), INTO_DB), [WEB, API]);
  });

  test('a namespaceSelector alone means all workloads of the namespaces, with an empty one of all namespaces, but nobody outside', () => {
    assert.deepEqual(allowed(from({ namespaceSelector: { matchLabels: { team: 'sales' } } }), INTO_DB), [SHOP]);
    assert.deepEqual(allowed(from({ namespaceSelector: {} }), INTO_DB), [WEB, API, SHOP]);
    assert.ok(!allowed(from({ namespaceSelector: {} }), INTO_DB).includes(OUTSIDE));
  });

  test('both selectors in one peer must hold, those of two peers need not', () => {
    const app = { podSelector: { matchLabels: { app: 'web' } } };
    const team = { namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'DoesNotExist' }] } };
    assert.deepEqual(allowed(from({ ...app, ...team }), INTO_DB), [WEB]);
    assert.deepEqual(allowed(from(app, { namespaceSelector: { matchLabels: { team: 'sales' } } }), INTO_DB), [WEB, SHOP]);
  });

  test('every namespace carries its name as a label, declared or not, whatever it is declared with', () => {
    const named = (name: string) => from({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } });
    assert.deepEqual(allowed(named('shop'), INTO_DB), [SHOP]);
    assert.deepEqual(allowed(named('default'), INTO_DB), [WEB, API]);
    const liar = [{ name: 'shop', labels: { 'kubernetes.io/metadata.name': 'default' } }];
    assert.deepEqual(allowed({ ...named('default'), namespaces: liar }, INTO_DB), [WEB, API]);
  });

  test('NotIn and DoesNotExist hold for a label that is absent, In and Exists do not', () => {
    const tier = (operator: string, values?: string[]) => allowed(from({ podSelector: { matchExpressions: [{ key: 'tier', operator, ...(values === undefined ? {} : { values }) }] } }), INTO_DB);
    assert.deepEqual(tier('NotIn', ['front']), [WEB, API]);
    assert.deepEqual(tier('NotIn', ['back', 'front']), [WEB]);
    assert.deepEqual(tier('In', ['back', 'front']), [API]);
    assert.deepEqual(tier('Exists'), [API]);
    assert.deepEqual(tier('DoesNotExist'), [WEB]);
  });

  test('what every object of the language has is no label', () => {
    assert.deepEqual(allowed(from({ podSelector: { matchExpressions: [{ key: 'constructor', operator: 'Exists' }] } }), INTO_DB), []);
  });
});

describe('ranges', () => {
  const from = (...peers: Record<string, unknown>[]) => over({ name: 'p', selector: { app: 'db' }, ingress: [{ from: peers }] });
  const source = (ip: string): string => `${ip} -> db 1`;

  test('a range reaches from its first address to its last, workloads too', () => {
    const asked = ['9.255.255.255', '10.0.0.0', '10.255.255.255', '11.0.0.0', 'web'].map(source);
    assert.deepEqual(allowed(from({ cidr: '10.0.0.0/8' }), asked), asked.slice(1, 3).concat(source('web')));
    assert.deepEqual(allowed(from({ cidr: '10.0.0.0/32' }), asked), [source('10.0.0.0')]);
    assert.deepEqual(allowed(from({ cidr: '0.0.0.0/0' }), asked), asked);
  });

  test('except carves only its own range, what another one allows stays allowed', () => {
    const asked = ['10.1.0.1', '10.2.0.1'].map(source);
    const carved = { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.1.0.0/24'] };
    assert.deepEqual(allowed(from(carved), asked), [source('10.2.0.1')]);
    assert.deepEqual(allowed(from(carved, { cidr: '10.1.0.0/24' }), asked), asked);
  });

  test('a workload whose address is not told is in the range of all addresses, and in no other', () => {
    const nowhere = { name: 'nowhere', labels: {}, ports: [] };
    const range = (cidr: string, except: string[] = []) => ({ ...from({ cidr, except }), workloads: [...workloads, nowhere] });
    assert.deepEqual(allowed(range('0.0.0.0/0'), [source('nowhere')]), [source('nowhere')]);
    assert.deepEqual(allowed(range('0.0.0.0/1'), [source('nowhere')]), []);
    assert.deepEqual(allowed(range('0.0.0.0/0', ['10.0.0.0/8']), [source('nowhere')]), []);
  });

  test('Kubernetes takes a range whose host bits are set for its network', () => {
    const given = over(kubernetes({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.9.8.7/8' } }] }] }));
    assert.deepEqual(allowed(given, [source('10.0.0.1'), source('11.0.0.1')]), [source('10.0.0.1')]);
  });
});

describe('ports', () => {
  const rules = (...ingress: Record<string, unknown>[]) => over({ name: 'p', selector: { app: 'db' }, ingress });
  const into = (...services: string[]): string[] => services.map((service) => `web -> db ${service}`);

  test('a port without a protocol is one of TCP', () => {
    const asked = into('tcp/53', 'udp/53', 'sctp/53', 'tcp/54');
    assert.deepEqual(allowed(rules({ port: 53 }), asked), into('tcp/53'));
    assert.deepEqual(allowed(over(kubernetes({ podSelector: {}, ingress: [{ ports: [{ port: 53 }] }] })), asked), into('tcp/53'));
    assert.deepEqual(allowed(over(kubernetes({ podSelector: {}, ingress: [{ ports: [{}] }] })), asked), into('tcp/53', 'tcp/54'));
  });

  test('a protocol without a port means all of its ports, neither means everything', () => {
    const asked = into('udp/1', 'udp/65535', 'tcp/1', 'sctp/1');
    assert.deepEqual(allowed(rules({ protocol: 'udp' }), asked), into('udp/1', 'udp/65535'));
    assert.deepEqual(allowed(rules({ from: { selector: {} } }), asked), asked);
  });

  test('a range of ports holds both of its ends', () => {
    assert.deepEqual(allowed(rules({ port: 80, endPort: 90 }), into('79', '80', '90', '91', 'udp/85')), into('80', '90'));
    assert.deepEqual(allowed(rules({ port: 80, endPort: 80 }), into('79', '80', '81')), into('80'));
  });

  test('a rule for SCTP isolates TCP and UDP too', () => {
    assert.deepEqual(allowed(rules({ port: 80, protocol: 'sctp' }), into('sctp/80', 'tcp/80', 'udp/80')), into('sctp/80'));
  });

  test('a named port is the one that the destination calls so, for each destination another one', () => {
    const egress = over({ name: 'p', selector: { app: 'db' }, egress: [{ port: 'http' }] });
    const asked = ['db -> web 8080', 'db -> web 80', 'db -> api 80', 'db -> api 8080', 'db -> 1.2.3.4 80'];
    assert.deepEqual(allowed(egress, asked), ['db -> web 8080', 'db -> api 80']);
    const ingress = over({ name: 'p', selector: { app: 'api' }, ingress: [{ port: 'http' }] });
    assert.deepEqual(allowed(ingress, ['web -> api 80', 'web -> api 8080', 'web -> api http']), ['web -> api 80', 'web -> api http']);
  });

  test('a named port counts only with the protocol that the destination declares for it', () => {
    const dns = (protocol: string) => over({ name: 'p', selector: { app: 'api' }, ingress: [{ port: 'dns', protocol }] });
    assert.deepEqual(allowed(dns('udp'), ['web -> api udp/53', 'web -> api tcp/53']), ['web -> api udp/53']);
    assert.deepEqual(allowed(dns('tcp'), ['web -> api udp/53', 'web -> api tcp/53']), []);
  });
});

test('the whole matrix goes from each workload to each declared port, itself too', () => {
  const results = simulate(over({ name: 'p', selector: { app: 'db' }, ingress: [] }));
  assert.equal(results.length, 4 * 4);
  const denied = results.filter(({ verdict }) => verdict === 'deny').map(({ from, to, port, protocol }) => `${from} ${to} ${protocol}/${port}`);
  assert.deepEqual(denied, ['default/web default/db tcp/5432', 'default/api default/db tcp/5432', 'shop/web default/db tcp/5432']);
});

test('answers come in the order of the probes, in the words in which they were asked', () => {
  const probes = [{ from: 'web', to: 'api', port: 'http' }, { from: '10.200.1.1', to: 'default/api', port: 80 }, { from: 'api', to: '9.9.9.9', port: 53, protocol: 'udp' as const }];
  assert.deepEqual(
    simulate({ ...over(), probes }).map(({ from, to, port, protocol }) => [from, to, port, protocol]),
    [['web', 'api', 'http', 'tcp'], ['10.200.1.1', 'default/api', 80, 'tcp'], ['api', '9.9.9.9', 53, 'udp']],
  );
});
