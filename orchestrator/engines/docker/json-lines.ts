import { LineSplitter } from '../log-buffer.ts'

/** The JSON objects of a stream, one a line: events, and the progress of pulls. What is no JSON is left out. */
export async function* jsonLines(stream: AsyncIterable<Buffer>): AsyncIterable<Record<string, unknown>> {
  let lines: string[] = []
  const splitter = new LineSplitter((line) => lines.push(line))
  for await (const chunk of stream) {
    splitter.push(chunk)
    const ready = lines
    lines = []
    for (const line of ready) {
      const value = parse(line)
      if (value !== undefined) yield value
    }
  }
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
