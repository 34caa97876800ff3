import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { conversation, type InstalledModule, installModule } from './python-module.ts'

describe('the ocr module', () => {
  let module: InstalledModule
  let image: string

  beforeAll(async () => {
    image = await readFile(path.join(import.meta.dirname, 'fixtures/notice.png'), 'base64')
    module = await installModule('ocr')
  })
  afterAll(() => module?.remove())

  it('yields one line after the other, each with its box and score', async () => {
    const [asImage, asFile] = await module.infer('ocr', [
      conversation({ type: 'text', text: 'read this' }, { type: 'image', image }),
      conversation({ type: 'file', file: image, name: 'notice.png' }),
    ])
    expect(asImage?.yields?.map(({ text }) => text)).toEqual([
      'Harbour notice No. 42\n',
      'All ships keep left\n',
      'Berth 7 is closed today\n',
    ])
    for (const { extra } of asImage?.yields ?? []) {
      expect(extra?.box).toHaveLength(4)
      expect(extra?.score).toBeGreaterThan(0.5)
    }
    expect(asFile).toEqual(asImage)
  })

  it('says so when there is no picture, or one that can not be read', async () => {
    const [none, broken] = await module.infer('ocr', [
      conversation({ type: 'text', text: 'read this' }),
      conversation({ type: 'image', image: Buffer.from('no picture').toString('base64') }),
    ])
    expect(none?.error).toMatch(/no picture to read: send one/)
    expect(broken?.error).toMatch(/the file is no picture that can be read/)
  })
})
