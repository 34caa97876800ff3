import { expect, test } from 'vitest'
import { manifestFromImage } from '../../../orchestrator/catalog/image.ts'
import { caught } from '../../support/caught.ts'

const manifest = (labels: Record<string, string>, architecture = 'amd64') =>
  manifestFromImage(
    'some/image:1',
    { id: 'sha256:abc', labels, architecture },
    { settings: {}, defaults: {}, architecture: 'x86_64' },
  )
const error = (labels: Record<string, string>, architecture?: string) => caught(() => manifest(labels, architecture))
const speaks = { 'dev.berth.protocol': '1' }

test.each([
  ['JSON with names', '{"id":"m","models":["a","b"]}', '{"a":{},"b":{}}'],
  ['YAML with configurations', 'id: m\nmodels:\n  a: {x: 1.0}', '{"a":{"x":1.0}}'],
])('a manifest in a label may be %s', (_what, label, models) => {
  const read = manifest({ ...speaks, 'dev.berth.module': label })
  expect(read).toMatchObject({
    id: 'm',
    format: 'image',
    source: { kind: 'image', reference: 'some/image:1' },
    base: { kind: 'protocol', image: 'some/image:1' },
    requirements: { empty: true },
  })
  expect(JSON.stringify(read.models)).toBe(models)
})

test('an image without our labels is no module', async () => {
  expect(await error({})).toMatchObject({
    code: 'MANIFEST_INVALID',
    message: expect.stringContaining('neither the label dev.berth.protocol nor dev.berth.module'),
    details: { image: 'some/image:1', remedy: expect.any(String) },
  })
})

test.each([
  [{ 'dev.berth.protocol': '2', 'dev.berth.module': '{}' }, 'speaks version "2"'],
  [{ 'dev.berth.module': '{"id":"m","models":[]}' }, 'has no label dev.berth.protocol'],
])('%j is another protocol', async (labels, message) => {
  expect(await error(labels)).toMatchObject({ code: 'RUNNER_PROTOCOL', message: expect.stringContaining(message) })
})

test.each([
  [speaks, 'has no label dev.berth.module'],
  [{ ...speaks, 'dev.berth.module': '{"id":"m"}' }, 'the key "models" is missing'],
  [{ ...speaks, 'dev.berth.module': '{"models":[]}' }, 'the key "id" is missing'],
  [{ ...speaks, 'dev.berth.module': '{"id":"m","modls":[]}' }, 'did you mean "models"?'],
  [{ ...speaks, 'dev.berth.module': '{"id":' }, 'no valid YAML'],
])('%j is no manifest', async (labels, message) => {
  expect(await error(labels)).toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining(message) })
})

test('an image for another architecture is refused by name', async () => {
  const labels = { ...speaks, 'dev.berth.module': '{"id":"m","models":[]}' }
  expect(await error(labels, 'arm64')).toMatchObject({
    code: 'IMAGE_UNAVAILABLE',
    message: expect.stringContaining('made for arm64'),
  })
})

test('another build of the same reference is another content', () => {
  const labels = { ...speaks, 'dev.berth.module': '{"id":"m","models":[]}' }
  const build = (id: string) =>
    manifestFromImage('a', { id, labels, architecture: 'amd64' }, { settings: {}, defaults: {} }).contentHash
  expect(build('sha256:1')).not.toBe(build('sha256:2'))
})
