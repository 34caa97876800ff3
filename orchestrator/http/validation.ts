import { Ajv } from 'ajv'
import type { FastifySchemaCompiler, FastifySerializerCompiler } from 'fastify'

/**
 * Requests are checked by Ajv. Paths and queries are text, so that their values are turned into the wanted type; a body has
 * types of its own, which are taken as they are.
 */
export function createValidatorCompiler(): FastifySchemaCompiler<object> {
  const options = { strict: false, validateFormats: false, useDefaults: true } as const
  const body = new Ajv(options)
  const text = new Ajv({ ...options, coerceTypes: 'array' })
  return ({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema)
}

/** Answers are written as they are: a schema may lag behind a view, and then neither drops its fields nor refuses it. */
export const plainSerializer: FastifySerializerCompiler<object> = () => (data) => JSON.stringify(data)
