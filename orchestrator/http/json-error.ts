/** Where a text stops being JSON (RFC 8259). V8 tells no position for some mistakes, and quotes the text in others. */
export interface JsonErrorPlace {
  /** UTF-16 code units from the start, 0-based. */
  readonly position: number
  /** 1-based. */
  readonly line: number
  readonly column: number
  readonly problem: string
}

const space = /[ \t\n\r]*/y
const scalar = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\d.])|true|false|null/y
const escaped = /\\(?:["\\/bfnrt]|u[\da-fA-F]{4})/y

/** The first place where `text`, which JSON.parse has refused, is wrong. Only called on the way to an error. */
export function locateJsonError(text: string): JsonErrorPlace {
  const open: ('{' | '[')[] = []
  let at = 0
  let expect: 'value' | 'value or ]' | 'key' | 'key or }' | 'colon' | 'comma' = 'value'
  for (;;) {
    at = skip(space, text, at)
    const char = text[at]
    const inside = open.at(-1)
    if (expect === 'comma' && inside === undefined) {
      return place(text, at, char === undefined ? 'it is refused' : 'there is more after its end')
    }
    if (char === undefined) return place(text, at, 'it ends too early')
    if ((expect === 'value' || expect === 'value or ]') && (char === '{' || char === '[')) {
      open.push(char)
      expect = char === '{' ? 'key or }' : 'value or ]'
      at += 1
    } else if (closes(char, inside, expect)) {
      open.pop()
      expect = 'comma'
      at += 1
    } else if (expect === 'comma' && char === ',') {
      expect = inside === '{' ? 'key' : 'value'
      at += 1
    } else if (expect === 'colon' && char === ':') {
      expect = 'value'
      at += 1
    } else if (expect === 'colon' || expect === 'comma') {
      return unexpected(text, at)
    } else if (char === '"') {
      const end = endOfString(text, at)
      if (end < 0)
        return place(text, -end, end === -text.length ? 'a string is not closed' : 'a bad character in a string')
      expect = expect.startsWith('key') ? 'colon' : 'comma'
      at = end
    } else {
      const end = expect.startsWith('key') ? at : skip(scalar, text, at)
      if (end === at) return unexpected(text, at)
      expect = 'comma'
      at = end
    }
  }
}

/** Index after the closing quote; where the string is wrong, that place negated. A loop: a pattern could run out of stack. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; ) {
    const char = text.charCodeAt(at)
    if (char === 0x22) return at + 1
    const next = char === 0x5c ? skip(escaped, text, at) : char < 0x20 ? at : at + 1
    if (next === at) return -at
    at = next
  }
  return -text.length
}

function closes(char: string, inside: '{' | '[' | undefined, expect: string): boolean {
  if (inside === '{') return char === '}' && (expect === 'key or }' || expect === 'comma')
  return inside === '[' && char === ']' && (expect === 'value or ]' || expect === 'comma')
}

function skip(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : at
}

function unexpected(text: string, at: number): JsonErrorPlace {
  return place(text, at, `unexpected ${JSON.stringify(String.fromCodePoint(text.codePointAt(at) ?? 0))}`)
}

function place(text: string, position: number, problem: string): JsonErrorPlace {
  const before = text.slice(0, position)
  const lineStart = before.lastIndexOf('\n') + 1
  let line = 1
  for (let at = before.indexOf('\n'); at !== -1; at = before.indexOf('\n', at + 1)) line += 1
  return { position, line, column: position - lineStart + 1, problem }
}
