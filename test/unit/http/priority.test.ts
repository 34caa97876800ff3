import { describe, expect, it } from 'vitest'
import type { KeyScope } from '../../../orchestrator/domain/api-key.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { Priority } from '../../../orchestrator/domain/priority.ts'
import { withKeys } from '../../../orchestrator/http/auth/authenticator.ts'
import { hashKey, makeKey } from '../../../orchestrator/http/auth/keys.ts'
import { inferRoutes } from '../../../orchestrator/http/routes/infer.ts'
import type { InferenceRequest } from '../../../orchestrator/inference/types.ts'
import { memoryKeys, type TestServerOptions, testServer } from './fake-services.ts'

/** Notes what the dispatcher was asked for, and refuses it. */
async function inferring(options: TestServerOptions = {}) {
  const asked: InferenceRequest[] = []
  const dispatcher = {
    dispatch(request: InferenceRequest, sink: { fail(error: BerthError): void }) {
      asked.push(request)
      sink.fail(new BerthError('MODULE_BUSY', 'later'))
      return { cancel() {}, resume() {} } as never
    },
  }
  const { app } = await testServer({
    ...options,
    plugins: [(scope, { services }) => inferRoutes(scope, { dispatcher, models: services.models })],
  })
  const post = (payload: object, headers = {}, url = '/api/models/minilm/infer') =>
    app.inject({ method: 'POST', url, payload, headers })
  return { asked, post }
}

describe('priority and caller of an inference', () => {
  it('without keys: the address, and the priority that the body asks for', async () => {
    const { asked, post } = await inferring()
    for (const priority of [undefined, 'low', 'high']) await post({ priority })
    await post({ name: 'minilm', priority: 'low' }, {}, '/api/modules/embeddings/rpc/infer')
    expect(asked.map(({ caller, priority }) => [caller, priority])).toEqual([
      ['address:127.0.0.1', 'normal'],
      ['address:127.0.0.1', 'low'],
      ['address:127.0.0.1', 'high'],
      ['address:127.0.0.1', 'low'],
    ])
  })

  it.each(['urgent', 1, null])('%j is no priority', async (priority) => {
    const { asked, post } = await inferring()
    const answer = await post({ priority })
    expect(answer.statusCode).toBe(400)
    expect(answer.json().error).toMatchObject({
      code: 'REQUEST_INVALID',
      message: expect.stringContaining('low, normal, high'),
      details: { field: 'priority' },
    })
    expect(asked).toEqual([])
  })

  it.each<[Priority, KeyScope, string[]]>([
    ['low', 'infer', ['low', 'low', 'low']],
    ['normal', 'infer', ['normal', 'low', 'normal']],
    ['high', 'infer', ['high', 'low', 'high']],
    ['normal', 'admin', ['normal', 'low', 'high']],
  ])(
    "with a key of priority %s and scope %s: its name, and at most its priority but for an admin's",
    async (priority, scope, had) => {
      const keys = memoryKeys()
      const secret = makeKey()
      const key = { name: 'ci', hash: hashKey(secret), scopes: [scope], priority, createdAt: '2026-01-01T00:00:00Z' }
      keys.put(key)
      const { asked, post } = await inferring({ config: { auth: 'keys' }, auth: withKeys(keys) })
      for (const wanted of [undefined, 'low', 'high']) await post({ priority: wanted }, { 'x-api-key': secret })
      expect(asked.map((request) => request.priority)).toEqual(had)
      expect(new Set(asked.map(({ caller }) => caller))).toEqual(new Set(['key:ci']))
      expect(asked[0]?.keyInfo).toEqual({ Key: 'ci', Groups: [scope] })
    },
  )
})
