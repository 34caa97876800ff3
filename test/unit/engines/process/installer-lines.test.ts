import { describe, expect, it } from 'vitest'
import { parseLine } from '../../../../orchestrator/engines/installer-output.ts'

describe("an installer's line", () => {
  it.each([
    [
      '{"time":"t","level":"info","source":"installer","message":"Resolved 3 packages"}',
      { line: 'Resolved 3 packages' },
    ],
    [
      '{"progress":{"message":"downloading","current":1,"total":3}}',
      { progress: { message: 'downloading', current: 1, total: 3 } },
    ],
    [
      '{"failure":{"message":"uv ended with 1","lines":["a","b"]}}',
      { failure: { message: 'uv ended with 1', lines: ['a', 'b'] } },
    ],
    ['Segmentation fault', { line: 'Segmentation fault' }],
    ['[1, 2]', { line: '[1, 2]' }],
  ])('%s', (line, expected) => {
    expect(parseLine(line)).toEqual(expected)
  })
})
