/** What a file is, by its first bytes: how `infer --file` chooses the item and `--output` the ending. */
export interface MediaType {
  readonly kind: 'image' | 'audio' | 'file'
  /** With the dot. */
  readonly extension: string
}

interface Signature extends MediaType {
  readonly at: number
  readonly bytes: string
  /** For containers such as RIFF: what must stand at byte 8. */
  readonly form?: string
}

const signatures: readonly Signature[] = [
  { kind: 'image', extension: '.png', at: 0, bytes: '\x89PNG\r\n\x1a\n' },
  { kind: 'image', extension: '.jpg', at: 0, bytes: '\xff\xd8\xff' },
  { kind: 'image', extension: '.gif', at: 0, bytes: 'GIF8' },
  { kind: 'image', extension: '.webp', at: 0, bytes: 'RIFF', form: 'WEBP' },
  { kind: 'image', extension: '.bmp', at: 0, bytes: 'BM' },
  { kind: 'image', extension: '.tiff', at: 0, bytes: 'II*\0' },
  { kind: 'image', extension: '.tiff', at: 0, bytes: 'MM\0*' },
  { kind: 'image', extension: '.avif', at: 4, bytes: 'ftypavif' },
  { kind: 'image', extension: '.heic', at: 4, bytes: 'ftypheic' },
  { kind: 'audio', extension: '.wav', at: 0, bytes: 'RIFF', form: 'WAVE' },
  { kind: 'audio', extension: '.flac', at: 0, bytes: 'fLaC' },
  { kind: 'audio', extension: '.ogg', at: 0, bytes: 'OggS' },
  { kind: 'audio', extension: '.mp3', at: 0, bytes: 'ID3' },
  { kind: 'audio', extension: '.mp3', at: 0, bytes: '\xff\xfb' },
  { kind: 'audio', extension: '.mp3', at: 0, bytes: '\xff\xf3' },
  { kind: 'audio', extension: '.m4a', at: 4, bytes: 'ftypM4A' },
  { kind: 'file', extension: '.pdf', at: 0, bytes: '%PDF-' },
  { kind: 'file', extension: '.zip', at: 0, bytes: 'PK\x03\x04' },
  { kind: 'file', extension: '.mp4', at: 4, bytes: 'ftyp' },
]

export function detectMedia(data: Uint8Array): MediaType {
  const head = Buffer.from(data.subarray(0, 16)).toString('latin1')
  const found = signatures.find(
    ({ at, bytes, form }) => head.startsWith(bytes, at) && (form === undefined || head.startsWith(form, 8)),
  )
  return found ? { kind: found.kind, extension: found.extension } : { kind: 'file', extension: '.bin' }
}
