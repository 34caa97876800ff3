// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of configuration files are what is tested
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { readDocument } from '../../../orchestrator/config/document.ts'
import { describeProblem } from '../../../orchestrator/config/problems.ts'
import { tempFolder } from '../../support/temp-folder.ts'

const read = (text: string, env: Record<string, string> = {}, folder = '/') =>
  readDocument(text, { file: 'berth.yaml', substitutions: { env, folder } })
const problems = (text: string, env: Record<string, string> = {}) => read(text, env).problems.map(describeProblem)
const written = (text: string, env: Record<string, string> = {}) => JSON.stringify(read(text, env).written([]))

describe('numbers', () => {
  test.each([
    ['1.0', '1.0'],
    ['1', '1'],
    ['2.', '2.0'],
    ['-0.0', '-0.0'],
    ['1e3', '1000.0'],
    ['1e21', '1e+21'],
    ['0.10', '0.1'],
    ['+3', '3'],
    ['007', '7'],
    ['0x10', '16'],
    ['0o17', '15'],
    ['12345678901234567890', '12345678901234567890'],
  ])('%s is passed on as %s', (yaml, json) => {
    expect(written(`a: ${yaml}`)).toBe(`{"a":${json}}`)
  })

  test('are plain numbers for Berth itself', () => {
    expect(read('a: 1.0\nb: {c: 2e3}').value).toEqual({ a: 1, b: { c: 2000 } })
  })

  test('that JSON can not hold are problems', () => {
    expect(problems('a: .inf\nb: .nan')).toEqual([
      expect.stringMatching(/^berth.yaml:1:4: a: .inf can't be passed on/),
      expect.stringMatching(/^berth.yaml:2:4: b: .nan can't be passed on/),
    ])
  })

  test('any float stays a float and any integer an integer on their way through JSON', () => {
    const number = fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.maxSafeInteger())
    fc.assert(
      fc.property(number, fc.boolean(), (value, float) => {
        const plain = String(value)
        const text = float && /^-?\d+$/.test(plain) ? `${plain}.0` : plain
        const json = written(`a: ${text}`)
        const passed = /^\{"a":(.*)\}$/.exec(json)?.[1] ?? ''
        expect(/[.e]/.test(passed)).toBe(/[.e]/.test(text))
        expect(Number(passed)).toBe(value === 0 ? Number(text) : value)
      }),
    )
  })
})

describe('variables', () => {
  test('are replaced inside of text, in flow maps, with defaults and from files', () => {
    const folder = tempFolder({ secret: 'hunter2\n' })
    const text = 'a: { token: ${TOKEN}, b: x${TOKEN}y }\nc: ${EMPTY:-none, given}\nd: ${file:secret}\ne: "${EMPTY}"'
    expect(read(text, { TOKEN: 't{}', EMPTY: '' }, folder).value).toEqual({
      a: { token: 't{}', b: 'xt{}y' },
      c: 'none, given',
      d: 'hunter2',
      e: '',
    })
  })

  test('an unquoted one that is a number or a boolean is one; quoted, it is text', () => {
    const text = 'a: ${N}\nb: "${N}"\nc: ${F}\nd: ${B}\ne: ${Z}\nf: v${N}'
    expect(written(text, { N: '5', F: '1.0', B: 'true', Z: '007' })).toBe(
      '{"a":5,"b":"5","c":1.0,"d":true,"e":"007","f":"v5"}',
    )
  })

  test('what is put in is not read as YAML or as another variable', () => {
    expect(read('a: ${A}\nb: 1', { A: 'x\nb: 2 ${B}' }).value).toEqual({ a: 'x\nb: 2 ${B}', b: 1 })
  })

  test('a doubled dollar sign stands for the characters themselves', () => {
    expect(read('a: $${NAME}\nb: {c: "$${x}"}').value).toEqual({ a: '${NAME}', b: { c: '${x}' } })
  })

  test('every one that is not set is reported at its place', () => {
    expect(problems('a: x\nb:\n  c: "${ONE} and ${TWO}"')).toEqual([
      expect.stringMatching(/^berth.yaml:3:7: b.c: the environment variable ONE is not set: set it, or give a default/),
      expect.stringMatching(/^berth.yaml:3:18: b.c: the environment variable TWO is not set/),
    ])
  })

  test('a missing file, a malformed name and an open brace are problems', () => {
    expect(problems('a: ${file:/nowhere/at/all}\nb: ${not a name}\nc: ${OPEN')).toEqual([
      expect.stringMatching(/1:4: a: the file \/nowhere\/at\/all can't be read \(ENOENT\)/),
      expect.stringMatching(/2:4: b: "\$\{not a name\}" is no variable/),
      expect.stringMatching(/3:4: c: "\$\{OPEN" has no closing brace/),
    ])
  })

  test('without an environment to read from, the text stays as it is', () => {
    expect(readDocument('a: "${HOME}"', { file: 'module.yaml' }).value).toEqual({ a: '${HOME}' })
  })
})

describe('maps and aliases', () => {
  test('merge keys give what the map does not say itself', () => {
    const text = 'base: &base {a: 1.0, b: 2}\nmore: &more {b: 9, c: 3}\nx:\n  b: 5\n  <<: [*base, *more]'
    expect(JSON.stringify(read(text).written(['x']))).toBe('{"a":1.0,"b":5,"c":3}')
    expect(read(text).problem(['x', 'b'], 'm')).toMatchObject({ line: 4, column: 6 })
  })

  test('an alias repeats its anchor', () => {
    expect(read('a: &x [1, {b: 2}]\nc: *x').value).toEqual({ a: [1, { b: 2 }], c: [1, { b: 2 }] })
  })

  test('a key that stands twice is a problem', () => {
    expect(problems('listen: 1\nmodels: {}\nlisten: 2')).toEqual([
      'berth.yaml:3:1: the key "listen" stands here twice in one map: keep one of them',
    ])
  })

  test('aliases that multiply each other end in a problem and not in the memory', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]']
    for (let i = 1; i < 12; i += 1)
      lines.push(
        `a${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      )
    expect(problems(lines.join('\n'))).toEqual([expect.stringContaining('use fewer aliases')])
  })

  test('an alias inside of its own anchor, and one without an anchor, are problems', () => {
    expect(problems('a: &a [*a]')).toEqual([expect.stringContaining('inside its own anchor')])
    expect(problems('a: *b')).toHaveLength(1)
  })

  test('a key named __proto__ is a key like any other', () => {
    const { value } = read('__proto__: {polluted: true}')
    expect(Object.keys(value as object)).toEqual(['__proto__'])
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  })
})

describe('text that is no YAML', () => {
  test.each([
    ['a: [1, 2\nb: 3', 'no valid YAML'],
    ['\ta: 1', 'indent with spaces'],
    ['a: 1\n---\nb: 2', 'only one document'],
    ['['.repeat(20_000), 'nested too deeply'],
    ['a: !custom x', 'leave the tag out'],
  ])('%j', (text, message) => {
    const { problems: found } = read(text)
    expect(found[0]?.message).toContain(message)
    expect(found[0]?.line).toBeGreaterThan(0)
  })

  test('no text whatever makes it throw', () => {
    const piece = fc.constantFrom(
      'a',
      ': ',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '"',
      "'",
      '&x ',
      '*x',
      '${A}',
      '<<: ',
      '#',
      '|',
      '1.0',
      ',',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        read(pieces.join(''), { A: '1' })
      }),
    )
  })
})

test('a problem of a field that is not written points at what holds it', () => {
  const document = read('a:\n  b: 1\n')
  expect(document.problem(['a', 'missing'], 'm')).toMatchObject({ line: 2, column: 3, field: 'a.missing' })
  expect(document.problem(['a', 'b'], 'm', 'key')).toMatchObject({ line: 2, column: 3 })
  expect(document.problem(['a', 'b'], 'm')).toMatchObject({ line: 2, column: 6 })
})

test('any JSON value written as YAML is read back the same', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      const document = readDocument(stringify({ value }, { aliasDuplicateObjects: false }), { file: 'x' })
      expect(document.problems).toEqual([])
      expect(JSON.stringify((document.value as { value: unknown }).value)).toBe(JSON.stringify(value))
    }),
  )
})
