import semver from 'semver'
import Type, { type Static, type TSchemaOptions } from 'typebox'
import { readDocument, type YamlDocument } from '../config/document.ts'
import { modelFieldSchemas } from '../config/model-fields.ts'
import {
  defined,
  type ModuleFields,
  moduleFieldSchemas,
  moduleIdPattern,
  readModuleFields,
} from '../config/module-fields.ts'
import { type FieldPath, type Problem, problemsError } from '../config/problems.ts'
import { checkScale } from '../config/rules.ts'
import { isObject, published, validate, withoutEmpty } from '../config/validate.ts'
import type { ErrorDetails } from '../domain/errors.ts'
import { isJsonObject, type JsonObject } from '../domain/json.ts'

/** `module.yaml`, and the manifest in an image's label: schema and reading. (module-formats) */
const expects = (text: string): TSchemaOptions => ({ 'x-expects': text })

const Entry = Type.Object(modelFieldSchemas, {
  additionalProperties: true,
  description: 'Configuration of the model, these keys included.',
})

const Models = Type.Object(
  {},
  {
    patternProperties: { '^[^\\s/][^\\r\\n]{0,254}$': Type.Union([Entry, Type.Null()]) },
    additionalProperties: false,
    description: 'Models that the module offers, each with its configuration.',
    ...expects('a model name has no leading space or slash and at most 255 characters'),
  },
)

const ModelNames = Type.Array(Type.String({ minLength: 1, maxLength: 255 }), { description: 'Names alone.' })

export const ModuleDocument = Type.Object(
  {
    id: Type.Optional(
      Type.String({
        pattern: moduleIdPattern,
        description: "Unique name of the module; the folder's name when absent.",
        ...expects('a name of at most 63 letters, digits, "_", "-" and "."'),
      }),
    ),
    version: Type.Optional(Type.String({ description: 'Version of the module: three numbers (SemVer).' })),
    description: Type.Optional(Type.String({ description: 'What the module is for.' })),
    dockerfile: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Dockerfile in the folder that makes the base image; the folder is its context.',
        ...expects('the path of a Dockerfile in the folder'),
      }),
    ),
    ...moduleFieldSchemas,
    serves: Type.Optional(
      Type.Array(Type.String({ pattern: '^[a-z][a-z0-9_-]*$', ...expects('a kind such as chat or embedding') }), {
        description: 'What its models are for: chat, completion, embedding, image, speech, transcription ...',
      }),
    ),
    models: Type.Optional(Type.Union([Models, ModelNames], { description: 'Models that the module offers.' })),
    dependencies: Type.Optional(
      Type.Object(
        {},
        {
          patternProperties: {
            [moduleIdPattern]: Type.String({ ...expects('a version range such as ^1.2.0') }),
          },
          additionalProperties: false,
          description: 'Other modules that this one needs, each with a range of versions.',
          ...expects('a module id has letters, digits, "_", "-" and "." only'),
        },
      ),
    ),
  },
  { additionalProperties: false, description: 'What the format of a module can not say about it.' },
)

/** JSON Schema (2020-12) of `module.yaml`. */
export const manifestSchema = published(ModuleDocument, 'module.yaml', 'urn:berth:schema:module.yaml')

/** What a `module.yaml` says; absent is not said. */
export interface ModuleYaml extends ModuleFields {
  readonly id?: string
  readonly version?: string
  readonly description?: string
  readonly dockerfile?: string
  readonly serves?: readonly string[]
  /** Floats keep their point (domain/json.ts). */
  readonly models?: Readonly<Record<string, JsonObject>>
  readonly dependencies?: Readonly<Record<string, string>>
}

export interface ModuleYamlOptions {
  /** Name of the file, or of the image's label, in problems. */
  readonly file: string
  /** What the error is about: `Module minilm`. */
  readonly subject: string
  readonly details: ErrorDetails
  /** Keys that must be there. */
  readonly required?: readonly string[]
}

/**
 * Reads the text of a `module.yaml`. Variables are not replaced: a module does not get at the environment of Berth.
 * Throws MANIFEST_INVALID with every problem; its `details.module` is the id that the document gives, if it does.
 */
export function readModuleYaml(text: string, options: ModuleYamlOptions): ModuleYaml {
  const document = readDocument(text, {
    file: options.file,
    textAt: (path) => path.length === 1 && ['id', 'version', 'python', 'description'].includes(path[0] ?? ''),
  })
  const value = document.value === undefined ? {} : withoutEmpty(ModuleDocument, document.value)
  const problems = [...document.problems]
  const report = (path: FieldPath, message: string, at?: 'key' | 'value') => {
    problems.push(document.problem(path, message, at))
  }
  if (document.readable) {
    validate(ModuleDocument, value, report)
    checkModuleRules(value, options.required ?? [], report)
  }
  if (problems.length > 0) throw invalid(problems, value, options)
  const written = value as Static<typeof ModuleDocument>
  return {
    ...readModuleFields(written),
    ...defined({
      id: written.id,
      version: written.version,
      description: written.description,
      dockerfile: written.dockerfile,
      serves: written.serves,
      dependencies: written.dependencies as Readonly<Record<string, string>> | undefined,
      models: written.models === undefined ? undefined : readModels(written.models, document),
    }),
  }
}

function checkModuleRules(
  value: unknown,
  required: readonly string[],
  report: (path: FieldPath, message: string, at?: 'key' | 'value') => void,
): void {
  if (!isObject(value)) return
  const { version, image, dockerfile, dependencies } = value
  for (const key of required) {
    if (value[key] === undefined) report([key], `the key "${key}" is missing: it must be there`)
  }
  if (typeof version === 'string' && semver.valid(version) === null) {
    report(['version'], `"${version}" is no version: write three numbers as in 1.0.0 (semver.org)`)
  }
  if (image !== undefined && dockerfile !== undefined) {
    report(['dockerfile'], 'a module has an image or a dockerfile: keep one of the two', 'key')
  }
  if (typeof dockerfile === 'string' && (dockerfile.startsWith('/') || dockerfile.split('/').includes('..'))) {
    report(['dockerfile'], "must lie in the module's folder: write a path below it")
  }
  checkScale(value.scale, ['scale'], report)
  for (const [id, range] of isObject(dependencies) ? Object.entries(dependencies) : []) {
    if (typeof range === 'string' && semver.validRange(range) === null) {
      report(['dependencies', id], `"${range}" is no range of versions: write one such as ^1.2.0 or *`)
    }
  }
}

function readModels(models: NonNullable<Static<typeof ModuleDocument>['models']>, document: YamlDocument) {
  const read: Record<string, JsonObject> = Object.create(null)
  if (Array.isArray(models)) {
    for (const name of models) read[name] = {}
    return read
  }
  for (const name of Object.keys(models)) {
    const configuration = document.written(['models', name])
    read[name] = isJsonObject(configuration) ? configuration : {}
  }
  return read
}

function invalid(problems: readonly Problem[], value: unknown, options: ModuleYamlOptions) {
  const id =
    isObject(value) && typeof value.id === 'string' && new RegExp(moduleIdPattern).test(value.id) ? value.id : undefined
  return problemsError('MANIFEST_INVALID', options.subject, problems, {
    ...options.details,
    ...(id === undefined ? {} : { module: id }),
    remedy: `Correct ${options.file}; \`berth schema module\` prints what may stand in it.`,
  })
}
