import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { isJsonObject } from '../domain/json.ts'
import { detectMedia } from './media.ts'
import { megabytes, type Output, shorten } from './output.ts'

/** Shows the chunks of one inference as they come. */
export interface AnswerPrinter {
  chunk(chunk: unknown): Promise<void>
  /** Ends the last line. */
  end(): Promise<void>
}

/** `folder`: where files go; without one they are only named. */
export function createAnswerPrinter(out: Output, folder: string | undefined): AnswerPrinter {
  let lineOpen = false
  let files = 0

  const text = async (value: string): Promise<void> => {
    if (value === '') return
    await out.print(value)
    lineOpen = !value.endsWith('\n')
  }
  const line = async (value: string): Promise<void> => {
    await out.print(`${lineOpen ? '\n' : ''}${value}\n`)
    lineOpen = false
  }

  return {
    async chunk(value) {
      const chunk = isJsonObject(value) ? value : {}
      const response = isJsonObject(chunk.response) ? chunk.response : {}
      for (const warning of list(chunk.warnings)) out.note(`warning: ${plain(warning)}`)
      for (const error of list(chunk.errors)) out.note(`error: ${plain(error)}`)
      const hasText = typeof response.text === 'string' && response.text !== ''
      if (typeof response.text === 'string') await text(response.text)
      for (const file of list(response.files)) out.note(await takeFile(file, ++files, folder))
      if (isJsonObject(response.extra)) {
        for (const shown of describeExtra(response.extra, hasText)) await line(shown)
      }
    },
    async end() {
      if (lineOpen) await out.print('\n')
      lineOpen = false
    },
  }
}

/** Embeddings by their size and first numbers; what else there is only where the chunk has no text to show. */
export function describeExtra(extra: Readonly<Record<string, unknown>>, hasText: boolean): readonly string[] {
  const { embedding, embeddings, ...rest } = extra
  const vectors = Array.isArray(embeddings) ? embeddings : []
  return [
    ...(Array.isArray(embedding) ? [`embedding: ${vector(embedding)}`] : []),
    ...vectors.map((entry, index) => `embeddings[${index}]: ${Array.isArray(entry) ? vector(entry) : plain(entry)}`),
    ...(hasText ? [] : Object.entries(rest).map(([key, value]) => `${key}: ${shorten(plain(value), 200)}`)),
  ]
}

function vector(numbers: readonly unknown[]): string {
  const first = numbers.slice(0, 6).map((number) => (typeof number === 'number' ? number.toFixed(6) : plain(number)))
  return `${numbers.length} numbers [${first.join(', ')}${numbers.length > 6 ? ', ...' : ''}]`
}

/** A media item (`{"type":"image","image":base64}`), an item with `data`, or base64 alone. */
async function takeFile(file: unknown, number: number, folder: string | undefined): Promise<string> {
  const item = isJsonObject(file) ? file : {}
  const encoded = typeof file === 'string' ? file : (item[String(item.type)] ?? item.data)
  if (typeof encoded !== 'string') return `file ${number}: ${shorten(plain(file), 100)}`
  const data = Buffer.from(encoded.replace(/^data:[^,]*,/, ''), 'base64')
  const { kind, extension } = detectMedia(data)
  const size = megabytes(data.length)
  if (folder === undefined) return `file ${number}: ${kind}, ${size} (--output DIR saves it)`
  const name = typeof item.name === 'string' ? path.basename(item.name) : ''
  const saved = await save(folder, /^\.*$/.test(name) ? `${number}${extension}` : name, data)
  return `file ${number}: ${kind}, ${size}, saved as ${saved}`
}

/** Never writes over a file: `cat.png`, then `cat-2.png`. */
async function save(folder: string, name: string, data: Buffer): Promise<string> {
  await mkdir(folder, { recursive: true })
  const { name: stem, ext } = path.parse(name)
  for (let copy = 1; ; copy++) {
    const file = path.join(folder, copy === 1 ? name : `${stem}-${copy}${ext}`)
    try {
      await writeFile(file, data, { flag: 'wx' })
      return file
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    }
  }
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function plain(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
