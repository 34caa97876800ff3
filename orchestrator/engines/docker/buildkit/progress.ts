import { StringDecoder } from 'node:string_decoder'
import { type BuildStatus, decodeStatus } from './messages.ts'

/**
 * The lines of a build for people, from the records of the daemon's answer: BuildKit's status messages, and the plain text
 * of daemons without it. Output of a step comes in pieces that are cut anywhere: it is told a line at a time.
 */
export class BuildProgress {
  readonly #onLine: (line: string) => void
  readonly #begun = new Set<string>()
  readonly #open = new Map<string, { readonly decoder: StringDecoder; text: string }>()
  /** What the daemon said is wrong. */
  failure: string | undefined

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine
  }

  note(record: Readonly<Record<string, unknown>>): void {
    if (typeof record.error === 'string') this.failure = record.error.trim()
    if (record.id === 'moby.buildkit.trace') this.#status(record.aux)
    else if (typeof record.stream === 'string') this.#tell(record.stream)
    else if (typeof record.status === 'string') this.#tell(record.status)
  }

  /** Ends lines that had no end. */
  end(): void {
    for (const { decoder, text } of this.#open.values()) this.#tell(text + decoder.end())
    this.#open.clear()
  }

  #status(aux: unknown): void {
    let status: BuildStatus
    try {
      status = decodeStatus(Buffer.from(typeof aux === 'string' ? aux : '', 'base64'))
    } catch {
      return
    }
    for (const { digest, name, cached, started, completed, error } of status.vertexes) {
      if (name && (started || cached) && !this.#begun.has(digest)) {
        this.#begun.add(digest)
        this.#tell(cached ? `${name} (cached)` : name)
      }
      if (completed) this.#close(digest)
      if (error) this.#tell(error)
    }
    for (const { vertex, msg } of status.logs) this.#output(vertex, msg)
    for (const { short } of status.warnings) this.#tell(`warning: ${Buffer.from(short).toString('utf8')}`)
  }

  #output(vertex: string, bytes: Uint8Array): void {
    const step = this.#open.get(vertex) ?? { decoder: new StringDecoder('utf8'), text: '' }
    this.#open.set(vertex, step)
    const lines = (step.text + step.decoder.write(Buffer.from(bytes))).split('\n')
    step.text = lines.pop() ?? ''
    for (const line of lines) this.#tell(line)
    if (step.text.length > longestLine) {
      this.#tell(step.text)
      step.text = ''
    }
  }

  #close(vertex: string): void {
    const step = this.#open.get(vertex)
    if (step === undefined) return
    this.#open.delete(vertex)
    this.#tell(step.text + step.decoder.end())
  }

  /** Of a line that was written over (a progress bar) the last state. */
  #tell(text: string): void {
    for (const line of text.split('\n')) {
      const shown = line.trimEnd().split('\r').at(-1) ?? ''
      if (shown !== '') this.#onLine(shown)
    }
  }
}

/** Characters; a longer one is told in pieces. */
const longestLine = 64 * 1024
