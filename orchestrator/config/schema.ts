import Type, { type Static, type TSchemaOptions } from 'typebox'
import { engineChoices, logLevels } from './config.ts'
import { modelFieldSchemas } from './model-fields.ts'
import { moduleFieldSchemas, moduleIdPattern, QueueField, Size } from './module-fields.ts'
import { published } from './validate.ts'

/** The published schema of `berth.yaml`, and what is checked: one and the same. */
const closed = { additionalProperties: false } as const
const expects = (text: string): TSchemaOptions => ({ 'x-expects': text })

const modelNamePattern = '^[^\\s/][^\\r\\n]{0,254}$'
const hostPattern = '^[^\\s/@]+$'

export const Model = Type.Object(
  {
    module: Type.Optional(Type.String({ minLength: 1, description: 'Module that serves the model.' })),
    service: Type.Optional(
      Type.String({ minLength: 1, description: 'The same as `module`: the folder of the service.' }),
    ),
    ...modelFieldSchemas,
  },
  {
    additionalProperties: true,
    description:
      'The whole entry, further keys included, is the configuration that the module gets when it loads the model.',
  },
)

const Models = (description: string) =>
  Type.Object(
    {},
    {
      patternProperties: { [modelNamePattern]: Model },
      additionalProperties: false,
      description,
      ...expects('a model name has no leading space or slash and at most 255 characters'),
    },
  )

const ModuleSettingsEntry = Type.Object(
  {
    config: Type.Optional(
      Type.Object(
        {},
        { additionalProperties: true, description: "Merged over the module's default configuration, key by key." },
      ),
    ),
    env: Type.Optional(
      Type.Object(
        {},
        {
          patternProperties: { '^[A-Za-z_][A-Za-z0-9_]*$': Type.String() },
          additionalProperties: false,
          description: "Variables of the module's process.",
          ...expects('a variable name has letters, digits and underscores only'),
        },
      ),
    ),
    ...moduleFieldSchemas,
  },
  { ...closed, description: 'Settings of one module; they win over its `module.yaml`.' },
)

const Docker = Type.Object(
  {
    base_image: Type.Optional(
      Type.String({
        minLength: 1,
        default: 'python:3.13-slim-trixie',
        description: 'Image of modules that name none: glibc and Python 3.',
      }),
    ),
    runner_image: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Image that holds the module runner; built from the sources when absent.',
      }),
    ),
    subnets: Type.Optional(
      Type.Array(
        Type.String({
          pattern: '^\\d{1,3}(\\.\\d{1,3}){3}/\\d{1,2}$',
          ...expects('an IPv4 range such as 10.213.0.0/16'),
        }),
        {
          minItems: 1,
          default: ['10.213.0.0/16'],
          description: 'Ranges from which every module network gets a subnet.',
          ...expects('a list of IPv4 ranges'),
        },
      ),
    ),
    subnet_prefix: Type.Optional(
      Type.Integer({
        minimum: 16,
        maximum: 29,
        default: 28,
        description: 'Prefix length of such a subnet.',
        ...expects('a prefix length from 16 to 29'),
      }),
    ),
  },
  { ...closed, description: 'What the Docker engine works with.' },
)

export const ConfigDocument = Type.Object(
  {
    listen: Type.Optional(
      Type.Union([Type.String({ minLength: 1 }), Type.Integer({ minimum: 0, maximum: 65535 })], {
        default: '127.0.0.1:8080',
        description: 'Address of the API: host:port, or a port of the loopback address.',
        ...expects('an address such as 127.0.0.1:8080'),
      }),
    ),
    engine: Type.Optional(
      Type.Enum([...engineChoices], {
        default: 'auto',
        description: 'What runs the modules; auto: Docker when it answers, else the embedded engine.',
      }),
    ),
    modules: Type.Optional(
      Type.String({ minLength: 1, default: './modules', description: 'Folder whose folders are modules.' }),
    ),
    data: Type.Optional(
      Type.String({
        minLength: 1,
        default: './.berth',
        description: 'Folder of the store, environments of the embedded engine and logs.',
      }),
    ),
    auth: Type.Optional(
      Type.Enum(['none', 'keys'], {
        default: 'none',
        description:
          'none: loopback only. keys: every request needs a key (the default when BERTH_ADMIN_KEY is given).',
      }),
    ),
    models: Type.Optional(Models('Models by name: which module serves them and their configuration.')),
    services: Type.Optional(
      Models('The same as `models`, in the form of the service document: entries with `service`.'),
    ),
    module_settings: Type.Optional(
      Type.Object(
        {},
        {
          patternProperties: { [moduleIdPattern]: ModuleSettingsEntry },
          additionalProperties: false,
          description: 'Settings by module id.',
          ...expects('a module id has letters, digits, "_", "-" and "." only'),
        },
      ),
    ),
    shutdown: Type.Optional(
      Type.Enum(['keep', 'stop'], {
        default: 'keep',
        description: 'What becomes of module containers when the orchestrator ends.',
      }),
    ),
    body_limit: Type.Optional(Size({ default: '64MiB', description: 'Largest request body.' })),
    memory: Type.Optional(
      Type.Union([Type.Literal('none'), Size({})], {
        description:
          "Main memory for modules together, shared out by their resources.memory; the machine's, less a reserve, when absent. none: no account is kept.",
        ...expects('a size such as 24GiB, or none'),
      }),
    ),
    log_level: Type.Optional(
      Type.Enum([...logLevels], { default: 'info', description: 'Least important lines of the log.' }),
    ),
    allowed_hosts: Type.Optional(
      Type.Array(
        Type.String({ pattern: hostPattern, ...expects('a host name such as berth.example or berth.example:8080') }),
        {
          default: [],
          description: 'Further names that the headers Host and Origin may hold when auth is none.',
        },
      ),
    ),
    queue: Type.Optional(QueueField),
    docker: Type.Optional(Docker),
    reload: Type.Optional(
      Type.Boolean({ default: true, description: 'Changes of this file and of modules apply while Berth runs.' }),
    ),
    instance: Type.Optional(
      Type.String({
        pattern: '^[a-z0-9][a-z0-9-]{0,39}$',
        description: "Name for this instance's labels in place of the id that Berth makes.",
        ...expects('a name of at most 40 lower-case letters, digits and hyphens'),
      }),
    ),
  },
  { ...closed, description: 'Configuration of Berth.' },
)
export type ConfigDocument = Static<typeof ConfigDocument>

/** JSON Schema (2020-12) of `berth.yaml`. */
export const configSchema = published(ConfigDocument, 'berth.yaml', 'urn:berth:schema:berth.yaml')
