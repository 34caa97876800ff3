import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readWish } from '../../../orchestrator/cli/commands/scale.ts'
import { berth } from './command.ts'
import { type FakeApi, give, minilm, refuse, startFakeApi } from './fake-api.ts'

let api: FakeApi
beforeAll(async () => {
  api = await startFakeApi()
})
afterAll(() => api.close())

const scaled = (id: string, min: number, max: number, replicas: number) =>
  give({ min, max, replicas, module: { ...minilm, id } })

describe('scale', () => {
  it('waits until they are up, for several modules at once', async () => {
    api.on('PUT /api/modules/embeddings/scale', scaled('embeddings', 2, 2, 2))
    api.on('PUT /api/modules/ocr/scale', scaled('ocr', 0, 4, 1))
    const { code, stdout, stderr } = await berth(['scale', 'embeddings=2', 'ocr=0..4'], { url: api.url })
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toBe('embeddings: 2 wanted, 2 there (ready)\nocr: 0 to 4 wanted, 1 there (ready)\n')
    const asked = api.requests.filter(({ call }) => call.startsWith('PUT'))
    expect(asked.map(({ call, query, body }) => [call, query, body]).sort()).toEqual([
      ['PUT /api/modules/embeddings/scale', '?wait=true', { min: 2, max: 2 }],
      ['PUT /api/modules/ocr/scale', '?wait=true', { min: 0, max: 4 }],
    ])
  })

  it('gives the scale of the module itself back', async () => {
    api.on('DELETE /api/modules/embeddings/scale', scaled('embeddings', 0, 1, 1))
    const { code, stderr } = await berth(['scale', 'embeddings=default', '--no-wait'], { url: api.url })
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'embeddings: 0 to 1 wanted; `berth ps` shows how it goes\n' })
    expect(api.requests.at(-1)?.query).toBe('')
  })

  it('prints what the API answered with --json, a line a module', async () => {
    api.on('PUT /api/modules/embeddings/scale', scaled('embeddings', 1, 1, 1))
    const { stdout, stderr } = await berth(['scale', 'embeddings=1', '--json'], { url: api.url })
    expect(JSON.parse(stdout)).toMatchObject({ min: 1, max: 1, replicas: 1, module: { id: 'embeddings' } })
    expect(stderr).toBe('')
  })

  it('fails when one of them does, and tells of the others too', async () => {
    api.on('PUT /api/modules/embeddings/scale', scaled('embeddings', 1, 1, 1))
    api.on('PUT /api/modules/gone/scale', refuse(404, { code: 'MODULE_NOT_FOUND', message: 'There is no module gone' }))
    const { code, stderr } = await berth(['scale', 'gone=1', 'embeddings=1'], { url: api.url })
    expect(code).toBe(1)
    expect(stderr).toBe(
      'embeddings: 1 wanted, 1 there (ready)\nberth: There is no module gone\n  code: MODULE_NOT_FOUND\n',
    )
  })

  it.each(['embeddings', 'embeddings=', '=2', 'embeddings=two', 'embeddings=4..2', 'embeddings=-1', 'embeddings=1..'])(
    'asks for nothing and exits with 2 for %s',
    async (wrong) => {
      const before = api.requests.length
      const { code, stdout } = await berth(['scale', 'ocr=1', wrong], { url: api.url })
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(api.requests.length).toBe(before)
    },
  )

  it('a name may hold what divides', () => {
    expect(readWish('a=b=3')).toEqual({ module: 'a=b', scale: { min: 3, max: 3 } })
    expect(readWish('a..b=0..3')).toEqual({ module: 'a..b', scale: { min: 0, max: 3 } })
  })
})

describe('plan', () => {
  it('shows each step with its cause', async () => {
    const steps = [
      { action: 'start', module: 'ocr', replica: 'ocr-1', cause: 'two are wanted' },
      { action: 'prepare', module: 'chat', cause: 'its files have changed' },
    ]
    api.on('GET /api/plan', give({ steps }))
    const { code, stdout } = await berth(['plan'], { url: api.url })
    expect(code).toBe(0)
    expect(stdout).toBe(
      'ACTION   MODULE  REPLICA  CAUSE\n' +
        'start    ocr     ocr-1    two are wanted\n' +
        'prepare  chat    -        its files have changed\n',
    )
    expect(JSON.parse((await berth(['plan', '--json'], { url: api.url })).stdout)).toEqual({ steps })
  })

  it('says that there is nothing to do', async () => {
    api.on('GET /api/plan', give({ steps: [] }))
    const { code, stdout, stderr } = await berth(['plan'], { url: api.url })
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toMatch(/^nothing to do/)
  })
})
