import type { App } from './app.ts'
import { methodNotAllowed } from './errors.ts'

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** Answers METHOD_NOT_ALLOWED with `Allow` on every known path. Call before any route is registered. */
export function refuseOtherMethods(app: App): { readonly finish: () => void } {
  const urls = new Set<string>()
  app.addHook('onRoute', ({ url }) => {
    if (url !== '*') urls.add(url)
  })

  return {
    /** To be called in a plugin that is registered after all others. */
    finish() {
      for (const url of [...urls]) {
        const allow = methods.filter((method) => app.hasRoute({ url, method }))
        const others = methods.filter((method) => !allow.includes(method))
        app.route({
          url,
          method: others,
          config: { access: 'infer', whileDraining: true },
          schema: { hide: true },
          // Before the body is read: there is nobody to read it for.
          onRequest: (request, _reply, done) => done(methodNotAllowed(request, allow)),
          handler: (request) => {
            throw methodNotAllowed(request, allow)
          },
        })
      }
    },
  }
}
