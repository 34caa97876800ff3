import { LineSplitter } from '../log-buffer.ts'

/** The JSON objects of a stream, one a line: events, and the progress of pulls. What is no JSON is left out. */
export async function* jsonLines(stream: AsyncIterable<Buffer>): AsyncIterable<Record<string, unknown>> {
  let lines: string[] = []
  const splitter = new LineSplitter((line) => lines.push(line), longestLine)
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

/** A record of a build's progress holds much at once. Characters. */
const longestLine = 16 * 1024 * 1024

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
