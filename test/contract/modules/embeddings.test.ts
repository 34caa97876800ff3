import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { conversation, type InstalledModule, installModule } from './python-module.ts'

interface Reference {
  readonly cases: readonly { readonly text: string; readonly embedding: readonly number[] }[]
}

describe('the embeddings module', () => {
  let module: InstalledModule
  let cases: Reference['cases']

  beforeAll(async () => {
    const file = path.join(import.meta.dirname, 'fixtures/minilm.json')
    cases = (JSON.parse(await readFile(file, 'utf8')) as Reference).cases
    module = await installModule('embeddings')
  })
  afterAll(() => module?.remove())

  it('equals sentence-transformers within 1e-4, in a batch and one by one', async () => {
    const texts = cases.map(({ text }) => text)
    const [batch, ...single] = await module.infer('minilm', [
      { input: texts },
      ...texts.map((text) => conversation({ type: 'text', text })),
    ])
    const together = batch?.yields?.[0]?.extra?.embeddings as number[][]
    expect(together).toHaveLength(cases.length)
    for (const [index, { text, embedding }] of cases.entries()) {
      const alone = single[index]?.yields?.[0]?.extra?.embedding as number[]
      expect(distance(together[index], embedding), `batch: ${text.slice(0, 40)}`).toBeLessThan(1e-4)
      expect(distance(alone, embedding), `alone: ${text.slice(0, 40)}`).toBeLessThan(1e-4)
    }
  })

  it('answers one text with one embedding, a list with a list, and counts the tokens', async () => {
    const [text, list, parts] = await module.infer('minilm', [
      { input: 'a cat on a mat' },
      { input: ['a cat on a mat'] },
      conversation({ type: 'text', text: 'a cat' }, { type: 'text', text: 'a dog' }),
    ])
    expect(text?.yields).toHaveLength(1)
    expect(text?.yields?.[0]?.extra).toMatchObject({ usage: { prompt_tokens: 7, total_tokens: 7 } })
    expect(text?.yields?.[0]?.extra?.embedding).toHaveLength(384)
    expect(list?.yields?.[0]?.extra?.embeddings).toHaveLength(1)
    expect(parts?.yields?.[0]?.extra?.embeddings).toHaveLength(2)
  })

  it('says what is missing when there is nothing to embed', async () => {
    const answers = await module.infer('minilm', [{}, { conversation: [] }, { input: [] }, { input: [1] }])
    for (const { error } of answers) expect(error).toMatch(/^ValueError: nothing to embed: send a text/)
  })

  it('takes well below 200 MB on disk', async () => {
    expect(await module.installedBytes()).toBeLessThan(200e6)
  })
})

function distance(left: readonly number[] | undefined, right: readonly number[]): number {
  if (left?.length !== right.length) return Number.POSITIVE_INFINITY
  return Math.max(...right.map((value, index) => Math.abs(value - (left[index] ?? Number.NaN))))
}
