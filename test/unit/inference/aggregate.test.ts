import { describe, expect, it } from 'vitest'
import { aggregate } from '../../../orchestrator/inference/aggregate.ts'

const chunk = (response: object, more: object = {}) =>
  JSON.stringify({ chunk: { response, warnings: [], errors: [], ...more } })

describe('the frames of a stream put together', () => {
  it('hold more files than a call has room for arguments', () => {
    const files = Array.from({ length: 300_000 }, (_, index) => index)
    const whole = aggregate([chunk({ files }), '{"done":true}'])
    expect('response' in whole && whole.response.files?.length).toBe(files.length)
  })

  it('are texts joined, files in order, and of extra the later key', () => {
    const lines = [
      chunk({ text: 'a', extra: { k: 1, x: [1] } }),
      chunk({ files: ['f'] }, { warnings: ['w'] }),
      chunk({ text: 'b', files: ['g', 'h'], extra: { k: 2 } }, { errors: ['e'] }),
      JSON.stringify({ done: true, conversation: [{ role: 'assistant' }] }),
      '',
    ]
    expect(aggregate(lines)).toEqual({
      response: { text: 'ab', files: ['f', 'g', 'h'], extra: { k: 2, x: [1] } },
      warnings: ['w'],
      errors: ['e'],
      conversation: [{ role: 'assistant' }],
    })
  })

  it('keep numbers as the module wrote them', () => {
    const numbers = '{"f":1.0,"n":1180591620717411303424,"i":1}'
    const lines = [`{"chunk":{"response":{"extra":${numbers}}}}`, `{"done":true,"conversation":[${numbers}]}`]
    expect(JSON.stringify(aggregate(lines))).toBe(
      `{"response":{"extra":${numbers}},"warnings":[],"errors":[],"conversation":[${numbers}]}`,
    )
  })

  it('have no key that no chunk had', () => {
    expect(aggregate(['{"done":true}'])).toEqual({ response: {}, warnings: [], errors: [] })
    expect(aggregate([chunk({ text: '' }), '{"done":true}'])).toMatchObject({ response: { text: '' } })
  })

  it("are the stream's error where it has one", () => {
    const error = { code: 'OUT_OF_MEMORY', message: 'no', details: { traceback: 't' } }
    expect(aggregate([chunk({ text: 'a' }), JSON.stringify({ error })])).toMatchObject({
      error: { code: 'OUT_OF_MEMORY', origin: 'module', details: { traceback: 't' } },
    })
  })

  it('are an error where a line is none', () => {
    expect(aggregate([chunk({ text: 'a' }), '{"chunk":{"resp'])).toMatchObject({ error: { code: 'RUNNER_PROTOCOL' } })
    expect(aggregate(['[]'])).toMatchObject({ error: { code: 'RUNNER_PROTOCOL' } })
  })
})
