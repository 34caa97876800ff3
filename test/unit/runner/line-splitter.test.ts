import { describe, expect, it } from 'vitest'
import { LineSplitter } from '../../../orchestrator/runner/line-splitter.ts'

const texts = (lines: readonly Buffer[]) => lines.map(String)

describe('lines of a byte stream', () => {
  it('are whole, wherever the bytes are cut', () => {
    const lines = new LineSplitter(8)
    expect(texts(lines.push(Buffer.from('one\ntw')))).toEqual(['one'])
    expect(texts(lines.push(Buffer.from('o\n\nthr')))).toEqual(['two', ''])
    expect(lines.rest().toString()).toBe('thr')
    expect(lines.rest().toString()).toBe('')
  })

  it('may be long only up to the limit, however small the pieces', () => {
    const lines = new LineSplitter(8)
    for (let piece = 0; piece < 4; piece += 1) lines.push(Buffer.from('ab'))
    expect(() => lines.push(Buffer.from('c'))).toThrow('longer than 8 bytes')
  })

  it('count their length anew after a line end', () => {
    const lines = new LineSplitter(8)
    lines.push(Buffer.from('1234567'))
    expect(texts(lines.push(Buffer.from('8\n1234567')))).toEqual(['12345678'])
    expect(() => lines.push(Buffer.from('8'))).not.toThrow()
  })
})
