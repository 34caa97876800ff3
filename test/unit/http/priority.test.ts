import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
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
  const { app } = await testServer({ ...options, plugins: [(scope) => inferRoutes(scope, { dispatcher })] })
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

  it("with keys: the key's name, and never above the key's own priority", async () => {
    const keys = memoryKeys()
    const secret = makeKey()
    keys.put({ name: 'ci', hash: hashKey(secret), scopes: ['infer'], createdAt: '2026-01-01T00:00:00Z' })
    const { asked, post } = await inferring({ config: { auth: 'keys' }, auth: withKeys(keys) })
    for (const priority of [undefined, 'low', 'high']) await post({ priority }, { 'x-api-key': secret })
    expect(asked.map(({ caller, priority }) => [caller, priority])).toEqual([
      ['key:ci', 'normal'],
      ['key:ci', 'low'],
      ['key:ci', 'normal'],
    ])
  })
})
