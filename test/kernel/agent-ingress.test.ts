/** The ingress from a client to workloads, through the whole agent: hosts, paths, absence, hot changes and restarts; on the real kernel. */
import { strict as assert } from 'node:assert';
import { request } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { closeEverything, openTestAgent, processesRunning, serverCommand, until, type TestAgent } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';

const PORT = 8443;
let agent: TestAgent;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
});

afterEach(() => agent.clear());

after(closeEverything);

test('host and longest path of whole segments choose the service; no route is 404, no endpoint 503', async () => {
  await Promise.all(['shop', 'api', 'deep'].map((name) => httpService(name)));
  await agent.service('empty', { selector: { app: 'nobody' }, port: 80 });
  await agent.invoke('ingress.create', {
    name: 'in',
    rules: [
      { host: 'www.example.com', service: 'shop' },
      { host: 'www.example.com', path: '/api', service: 'api' },
      { host: 'www.example.com', path: '/api/deep', service: 'deep' },
      { host: 'empty.example.com', service: 'empty' },
      { host: '*.wild.example.com', path: '/only', service: 'api' },
    ],
  });
  const expected = [
    ['www.example.com', '/', 200, 'shop /'],
    ['WWW.example.com:8443', '/apix', 200, 'shop /apix'],
    ['www.example.com', '/api', 200, 'api /api'],
    ['www.example.com', '/api/x?y=1', 200, 'api /api/x?y=1'],
    ['www.example.com', '/api/deep/er', 200, 'deep /api/deep/er'],
    ['www.example.com', '/api/deeper', 200, 'api /api/deeper'],
    ['a.wild.example.com', '/only', 200, 'api /only'],
    ['a.wild.example.com', '/else', 404, undefined],
    ['a.b.wild.example.com', '/only', 404, undefined],
    ['other.example.com', '/', 404, undefined],
    ['empty.example.com', '/', 503, undefined],
  ] as const;
  for (const [host, path, status, body] of expected) {
    const answer = await get(host, path);
    assert.equal(answer.status, status, `${host}${path}`);
    if (body !== undefined) assert.equal(answer.body, body);
  }
});

test('requests go to every endpoint, and only to those that live', async () => {
  await httpService('web', ['a', 'b', 'c']);
  await agent.invoke('ingress.create', { name: 'in', rules: [{ host: 'www.example.com', service: 'web' }] });
  assert.deepEqual(await namesOf(60), ['a', 'b', 'c']);
  await agent.stop('b');
  assert.deepEqual(await namesOf(60), ['a', 'c']);
});

test('an ingress before its service: 503 and a warning, until the service and its endpoint come', async () => {
  const { warnings } = await agent.invoke('ingress.create', { name: 'in', rules: [{ host: 'www.example.com', service: 'later' }] });
  assert.match(String(warnings), /later/);
  assert.equal((await get('www.example.com')).status, 503);
  await httpService('later');
  await until('the endpoint is served', async () => assert.equal((await get('www.example.com')).body, 'later /'));
  await agent.invoke('service.delete', { name: 'later' });
  assert.equal((await get('www.example.com')).status, 503);
  await agent.invoke('ingress.delete', { name: 'in' });
  assert.equal((await get('www.example.com')).status, 404);
});

test('a hung proxy delays no service, is told, and is replaced', async () => {
  await httpService('web');
  await agent.invoke('ingress.create', { name: 'in', rules: [{ host: 'www.example.com', service: 'web' }] });
  // Its supervisor and its PID 1 were started before it.
  const hung = Math.max(...(await processesRunning('proxy/main.ts')));
  process.kill(hung, 'SIGSTOP');
  const startedAt = performance.now();
  const service = await agent.invoke('service.create', { name: 'other', port: 80 });
  assert.equal(service['enforced'], true);
  assert.ok(performance.now() - startedAt < 2000);
  const { enforced, reason } = await agent.invoke('ingress.create', { name: 'second', rules: [{ host: 'second.example.com', service: 'web' }] });
  assert.equal(enforced, false);
  assert.match(String(reason), /^the ingress proxy (does not answer|has not taken it yet)$/);
  await until('another proxy serves both', async () => {
    assert.equal((await get('www.example.com')).body, 'web /');
    assert.equal((await get('second.example.com')).body, 'web /');
  });
  // The one that stood by serves meanwhile.
  await until('the hung one is gone', async () => assert.ok(!(await processesRunning('proxy/main.ts')).includes(hung)));
  await until('its successor serves', async () => assert.doesNotMatch(String((await agent.invoke('network.status'))['warnings']), /ingress proxy/));
});

test('no request fails while rules change and while the agent restarts', async () => {
  await Promise.all(['one', 'two'].map((name) => httpService(name)));
  const rules = (service: string) => [{ host: 'www.example.com', service }];
  await agent.invoke('ingress.create', { name: 'in', rules: rules('one') });
  let changing = true;
  const answers = new Map<string, number>();
  const clients = Promise.all(
    [1, 2, 3].map(async () => {
      while (changing) {
        const { status, body } = await get('www.example.com');
        answers.set(`${status} ${body}`, (answers.get(`${status} ${body}`) ?? 0) + 1);
      }
    }),
  );
  for (let n = 0; n < 10; n += 1) {
    await agent.invoke('ingress.update', { name: 'in', rules: rules(n % 2 === 0 ? 'two' : 'one') });
    assert.equal((await get('www.example.com')).body, n % 2 === 0 ? 'two /' : 'one /', 'a change is served as soon as it is answered');
  }
  await agent.close();
  await agent.reopen();
  changing = false;
  await clients;
  assert.deepEqual([...answers.keys()].toSorted(), ['200 one /', '200 two /']);
});

/** A service of HTTP workloads, by default of one with its own name. */
async function httpService(name: string, servers: readonly string[] = [name]): Promise<void> {
  await Promise.all(servers.map((server) => agent.workload(server, { labels: { app: name }, command: serverCommand(server, ['http:8080']) })));
  await agent.service(name, { selector: { app: name }, port: 80, targetPort: 8080 });
  const { endpoints } = await agent.invoke('service.endpoints', { name });
  assert.ok(Array.isArray(endpoints) && endpoints.length === servers.length);
  for (const endpoint of endpoints) {
    const ip = String(Reflect.get(Object(endpoint), 'ip'));
    await until(`${ip} answers`, () => get('any', '/', { address: ip, port: 8080 }));
  }
}

async function namesOf(requests: number): Promise<string[]> {
  const names = new Set<string>();
  for (let n = 0; n < requests; n += 1) names.add((await get('www.example.com')).body.split(' ', 1)[0] ?? '');
  return [...names].toSorted();
}

function get(host: string, path = '/', { address, port } = { address: '127.0.0.1', port: PORT }): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: address, port, path, headers: { host }, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}
