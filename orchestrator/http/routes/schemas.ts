import Type from 'typebox'
import type { App } from '../app.ts'

export interface PublishedSchemas {
  /** JSON schema of `berth.yaml`. */
  readonly config: object
  /** JSON schema of `module.yaml`. */
  readonly module: object
}

/** The schemas that editors and `berth schema` take. */
export function schemaRoutes(app: App, schemas: PublishedSchemas): void {
  app.get(
    '/api/schemas/:document',
    {
      config: { access: 'infer' },
      schema: {
        summary: 'JSON schema of berth.yaml (config) or module.yaml (module)',
        tags: ['system'],
        params: Type.Object({ document: Type.Union([Type.Literal('config'), Type.Literal('module')]) }),
        response: { 200: Type.Unknown({ description: 'A JSON schema.' }) },
      },
    },
    (request) => schemas[request.params.document],
  )
}
