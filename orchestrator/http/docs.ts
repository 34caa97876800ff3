import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import { Type } from '@fastify/type-provider-typebox'
import type { App } from './app.ts'

/** Registered before any route: collects their schemas into one OpenAPI document. */
export function collectOpenApi(app: App, version: string): void {
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Berth', description: 'Every AI module in its own container, one API in front of all.', version },
      tags: [
        { name: 'inference' },
        { name: 'models' },
        { name: 'modules' },
        { name: 'environments' },
        { name: 'keys' },
        { name: 'system' },
        { name: 'health' },
      ],
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer' },
          key: { type: 'apiKey', in: 'header', name: 'x-api-key' },
        },
      },
      security: [{ bearer: [] }, { key: [] }],
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => String(json.$id ?? `schema-${index}`) },
  })
}

/** `/openapi.json`, and `/docs` to read and try it; everything is served from here, nothing is fetched from elsewhere. */
export function docsRoutes(app: App): void {
  app.get(
    '/openapi.json',
    {
      config: { access: 'infer' },
      schema: { hide: true, response: { 200: Type.Record(Type.String(), Type.Unknown()) } },
    },
    () => app.swagger() as unknown as Record<string, unknown>,
  )
  app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { deepLinking: true, validatorUrl: null, displayRequestDuration: true },
    staticCSP: {
      'default-src': "'self'",
      'img-src': ["'self'", 'data:'],
      'style-src': ["'self'", "'unsafe-inline'"],
      'base-uri': "'none'",
      'object-src': "'none'",
      'frame-ancestors': "'none'",
    },
  })
}
