// Holds the import rules of docs/architecture.md: rooms import one way, vendor types stay in their adapter.
const rooms = {
  domain: [],
  config: ['domain'],
  catalog: ['domain', 'config'],
  engines: ['domain'],
  runner: ['domain'],
  store: ['domain'],
  telemetry: ['domain'],
  lifecycle: ['domain', 'config', 'catalog', 'engines', 'runner', 'store', 'telemetry'],
  reconcile: ['domain', 'config', 'catalog', 'engines', 'runner', 'store', 'telemetry', 'lifecycle'],
  inference: ['domain', 'config', 'catalog', 'runner', 'telemetry', 'lifecycle', 'reconcile'],
  gateway: ['domain', 'config', 'catalog', 'runner', 'telemetry', 'lifecycle', 'reconcile', 'inference'],
  http: [
    'domain',
    'config',
    'catalog',
    'engines',
    'store',
    'telemetry',
    'lifecycle',
    'reconcile',
    'inference',
    'gateway',
  ],
}

const oneWay = Object.entries(rooms).map(([room, may]) => ({
  name: `${room}-imports`,
  comment: `orchestrator/${room} may import ${may.length === 0 ? 'nothing' : may.join(', ')} and itself`,
  severity: 'error',
  from: { path: `^orchestrator/${room}/` },
  to: { path: '^orchestrator/', pathNot: [room, ...may].map((name) => `^orchestrator/${name}/`) },
}))

const vendor = (name, packages, folder) => ({
  name: `${name}-stays-in-its-adapter`,
  severity: 'error',
  from: { path: '^(orchestrator|module-runner)/', pathNot: folder },
  to: { path: packages },
})

export default {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-unresolved',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: '^node:' },
    },
    ...oneWay,
    {
      name: 'domain-is-pure',
      comment: 'domain imports nothing, not even a package',
      severity: 'error',
      from: { path: '^orchestrator/domain/' },
      to: { pathNot: '^orchestrator/domain/' },
    },
    {
      name: 'cli-speaks-http-only',
      comment: 'the command talks to the HTTP API: from the rooms it may take types and pure domain code only',
      severity: 'error',
      from: { path: '^orchestrator/cli/' },
      to: {
        path: '^orchestrator/',
        pathNot: ['^orchestrator/cli/', '^orchestrator/domain/'],
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'runner-is-alone',
      comment: 'the module runner ships without the orchestrator',
      severity: 'error',
      from: { path: '^module-runner/' },
      to: { path: '^orchestrator/' },
    },
    {
      name: 'only-the-contract-of-the-runner',
      comment:
        'the orchestrator knows the wire schemas of the runner and shares its plain HTTP, and nothing else of it',
      severity: 'error',
      from: { path: '^orchestrator/' },
      to: { path: '^module-runner/', pathNot: '^module-runner/(protocol\\.ts$|plain-http/)' },
    },
    {
      name: 'plain-http-is-alone',
      comment: 'both servers use it: it knows neither of them',
      severity: 'error',
      from: { path: '^module-runner/plain-http/' },
      to: { path: '^(module-runner|orchestrator)/', pathNot: '^module-runner/plain-http/' },
    },
    {
      name: 'composition-root-is-the-root',
      severity: 'error',
      from: { path: '^orchestrator/.+/' },
      to: { path: '^orchestrator/(app|main)\\.ts$' },
    },
    {
      name: 'product-without-tests',
      severity: 'error',
      from: { path: '^(orchestrator|module-runner)/' },
      to: { path: '^(test|bench)/' },
    },
    vendor('dockerode', 'node_modules/(dockerode|@types/dockerode|docker-modem)/', '^orchestrator/engines/docker/'),
    vendor('fastify', 'node_modules/(fastify|@fastify)/', '^(orchestrator/http|module-runner/server)/'),
    vendor('prom-client', 'node_modules/prom-client/', '^orchestrator/telemetry/'),
    vendor('undici', 'node_modules/undici/', '^orchestrator/(runner|cli)/'),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
}
