import { describe, expect, test } from 'vitest'
import { manifestOf } from './manifests.ts'

const requirements = async (files: Record<string, string>, extra: readonly string[] = []) =>
  (await manifestOf({ files: { 'service.py': '', ...files }, settings: { requirements: extra } })).requirements
const hash = async (text: string, files: Record<string, string> = {}) =>
  (await requirements({ 'requirements.txt': text, ...files })).hash

describe('nothing is to be installed', () => {
  test.each([
    ['without a file', {}],
    ['with comments and blank lines only', { 'requirements.txt': '\n# numpy\n   \n' }],
    ['with options only', { 'requirements.txt': '--index-url https://example.org/simple\n' }],
    ['with constraints only', { 'requirements.txt': '-c limits.txt', 'limits.txt': 'numpy<3' }],
    ['with an included file of comments', { 'requirements.txt': '-r more.txt', 'more.txt': '# none' }],
  ])('%s', async (_what, files) => {
    expect(await requirements(files)).toMatchObject({ empty: true, hash: (await requirements({})).hash })
  })
})

describe('the same hash', () => {
  test.each([
    ['comments, blank lines and line ends', 'numpy>=1.0\ntorch', '# x\r\nnumpy >= 1.0  # why\r\n\r\n torch'],
    ['the order of lines', 'a\nb', 'b\na'],
    ['the spelling of names', 'Foo_Bar.Baz[X]==1.0', 'foo-bar-baz[x] == 1.0'],
    ['continued lines', 'a==1.0 --hash=sha256:abc', 'a==1.0 \\\n  --hash=sha256:abc'],
  ])('whatever %s', async (_what, one, other) => {
    expect(await hash(one)).toBe(await hash(other))
  })
})

describe('another hash', () => {
  test.each([
    ['a version', 'a==1', 'a==2'],
    ['a marker', 'a; python_version<"3.10"', 'a; python_version<"3.11"'],
    ['an index', '--index-url https://a.example/\na', '--index-url https://b.example/\na'],
    [
      'the order beside options',
      '--extra-index-url x\n--extra-index-url y',
      '--extra-index-url y\n--extra-index-url x\n',
    ],
    ['an extra', 'a[x]', 'a[y]'],
    ['a URL in another case', 'a @ https://x.example/A.whl', 'a @ https://x.example/a.whl'],
  ])('for %s', async (_what, one, other) => {
    expect(await hash(`${one}\nz`)).not.toBe(await hash(`${other}\nz`))
  })

  test.each([
    ['an included file', '-r more.txt', 'more.txt'],
    ['a file that an included file includes', '--requirement=sub/one.txt', 'sub/two.txt'],
    ['a constraints file', 'a\n-cmore.txt', 'more.txt'],
    ['a local wheel', './wheels/a-1.0-py3-none-any.whl', 'wheels/a-1.0-py3-none-any.whl'],
    ['a local folder', '-e ./package', 'package/setup.py'],
    ['a local folder with an extra', './package[all]', 'package/setup.py'],
    ['a file URL', 'a @ file:./wheels/a.whl', 'wheels/a.whl'],
    ['a folder of wheels', '--find-links wheels\na', 'wheels/a.whl'],
  ])('when %s changes', async (_what, text, file) => {
    const between = { 'sub/one.txt': '-r two.txt' }
    expect(await hash(text, { ...between, [file]: '1' })).not.toBe(await hash(text, { ...between, [file]: '2' }))
  })

  test('when module.yaml or the settings add some', async () => {
    expect((await requirements({}, ['numpy'])).empty).toBe(false)
    expect((await requirements({}, ['numpy'])).hash).not.toBe((await requirements({}, ['torch'])).hash)
  })
})

test('files that include each other end', async () => {
  expect((await requirements({ 'requirements.txt': '-r a.txt', 'a.txt': '-r requirements.txt\nnumpy' })).empty).toBe(
    false,
  )
})

test('an included file that is missing is left to the installer to complain about', async () => {
  expect((await requirements({ 'requirements.txt': '-r nowhere.txt' })).empty).toBe(false)
})

test('files outside of the module do not count: the installer does not have them', async () => {
  expect(await hash('./../other')).toBe(await hash('./../other'))
})

describe('requirements.py', () => {
  const program = (files: Record<string, string>) =>
    requirements({ 'requirements.py': "def Install(x):\n  InstallPackage(['-r', 'deps.txt', './w/a.whl'])", ...files })

  test('is a program, so something is to be installed', async () => {
    expect(await program({})).toMatchObject({ file: 'requirements.py', empty: false })
  })

  test.each(['deps.txt', 'w/a.whl', 'requirements-gpu.txt', 'requirements.txt'])(
    '%s beside it counts',
    async (file) => {
      expect((await program({ [file]: 'a==1' })).hash).not.toBe((await program({ [file]: 'a==2' })).hash)
    },
  )

  test('files that it does not name do not count', async () => {
    expect((await program({ 'other.py': '1' })).hash).toBe((await program({ 'other.py': '2' })).hash)
  })
})
