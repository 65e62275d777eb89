/** Prompts that bring web services to their clients: one behind a virtual IP and a host name, and several behind one host. Pure. */
import { z } from 'zod';
import { host } from '../model/ingress.ts';
import { name } from '../model/name.ts';
import { call, commaList, definePrompt, inline, number, portNumber, steps } from './mcp-prompt.ts';

const TELL = 'Then tell me the clusterIp and the urls.';

const MAX_REPLICAS = 20;
const MAX_BACKENDS = 20;

export const exposeWebService = definePrompt({
  name: 'expose_web_service',
  title: 'Expose a web service with load balancing',
  description: 'Run several copies of a web server, balance over them behind one virtual IP, and serve them to the outside under a host name.',
  needs: ['workload_run', 'service_create', 'ingress_create'],
  args: z.strictObject({
    name: name.describe('Name of the service, e.g. web; its workloads get the label app=NAME'),
    host: host.describe('Host name it answers to, e.g. www.example.com'),
    port: portNumber.prefault('80').describe('Port of the virtual IP; 80 when left out'),
    targetPort: portNumber.prefault('8080').describe('Port the server listens on; 8080 when left out'),
    replicas: number.pipe(z.int().min(1).max(MAX_REPLICAS)).prefault('2').describe(`How many copies, at most ${MAX_REPLICAS}; 2 when left out`),
  }),
  text: (args) =>
    steps(`Expose the web service "${args.name}" with load balancing over ${args.replicas} workloads, under the host name ${args.host}.`, [
      `Run the workloads. Each must listen on 0.0.0.0:${args.targetPort}; ask me for the program if you do not know it, and put it in place of the command here.`,
      ...Array.from({ length: args.replicas }, (_, index) =>
        call('workload_run', {
          name: `${args.name}-${index + 1}`,
          labels: { app: args.name },
          command: ['PROGRAM', 'ARGUMENT'],
          ports: [{ name: 'http', port: args.targetPort }],
        }),
      ),
      'Create the service.',
      call('service_create', { name: args.name, selector: { app: args.name }, port: args.port, targetPort: 'http' }),
      'Create the ingress.',
      call('ingress_create', { name: args.name, rules: [{ host: args.host, path: '/', service: args.name }] }),
      `Look whether it works: ${inline('service_endpoints', { name: args.name })} should tell of ${args.replicas} healthy endpoints, and ${inline('ingress_list', {})} should show its rule ready.`,
      TELL,
    ]),
});

export const apiGateway = definePrompt({
  name: 'api_gateway',
  title: 'Multi-service API gateway',
  description: 'Put several backends behind one host name, each under a path of its own.',
  needs: ['service_create', 'ingress_create'],
  args: z.strictObject({
    host: host.describe('Host name of the API, e.g. api.example.com'),
    backends: commaList
      // The service is called after its backend, with "-svc" behind it.
      .pipe(z.array(name.max(59, { error: 'a backend has at most 59 characters' })).max(MAX_BACKENDS))
      .refine((backends) => new Set(backends).size === backends.length, { error: 'each backend is named once' })
      .describe('Backends with commas between them, e.g. auth,users,orders: each is the label app=BACKEND of its workloads and the path /BACKEND'),
    port: portNumber.prefault('8080').describe('Port the backends listen on; 8080 when left out'),
    name: name.prefault('api-gateway').describe('Name of the ingress; api-gateway when left out'),
  }),
  text: (args) =>
    steps(`Build an API gateway for ${args.host} in front of these backends: ${args.backends.join(', ')}.`, [
      `Create a service per backend. It picks up all workloads with its label, now and later; they must listen on 0.0.0.0:${args.port}.`,
      ...args.backends.map((backend) => call('service_create', { name: `${backend}-svc`, selector: { app: backend }, port: args.port })),
      'Create one ingress that routes by path; the longest path that fits wins, and a backend sees the whole path.',
      call('ingress_create', { name: args.name, rules: args.backends.map((backend) => ({ host: args.host, path: `/${backend}`, service: `${backend}-svc` })) }),
      `Look whether it works: ${inline('ingress_list', {})} should show each rule ready; for one that is not, service_endpoints tells what stands behind it.`,
      TELL,
    ]),
});
