import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { conversation, type InstalledModule, installModule } from './python-module.ts'

describe('the file-type module', () => {
  let module: InstalledModule
  beforeAll(async () => {
    module = await installModule('file-type')
  })
  afterAll(() => module?.remove())

  it('judges each file by its content', async () => {
    const file = await readFile(path.join(import.meta.dirname, 'driver/drive.py'), 'base64')
    const image = await readFile(path.join(import.meta.dirname, 'fixtures/notice.png'), 'base64')
    const [answer] = await module.infer('file-type', [
      conversation({ type: 'file', file, name: 'misleading.jpg' }, { type: 'image', image }),
    ])
    expect(answer?.yields).toMatchObject([
      {
        text: expect.stringMatching(/^misleading\.jpg: Python source/),
        extra: { label: 'python', mime: 'text/x-python' },
      },
      { extra: { label: 'png', mime: 'image/png' } },
    ])
  })

  it('says what is missing when there is no file', async () => {
    const [answer] = await module.infer('file-type', [{}])
    expect(answer?.error).toMatch(/no file to judge: send one/)
  })
})
