import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Memory in MiB. */
export interface FakeGpu {
  readonly uuid: string
  readonly total: number
  readonly used?: number
  readonly processes?: readonly { readonly pid: number; readonly used: number }[]
}

/** An `nvidia-smi` in a folder for the PATH: it plays the figures of `gpus`, and others after `tell`. */
export function fakeNvidiaSmi(folder: string, gpus: readonly FakeGpu[]) {
  mkdirSync(folder, { recursive: true })
  const file = (name: string) => join(folder, name)
  writeFileSync(file('nvidia-smi'), script, { mode: 0o755 })
  const tell = (told: readonly FakeGpu[]) => {
    const rows = (each: (gpu: FakeGpu, index: number) => string) => told.map(each).join('')
    writeFileSync(
      file('index,memory.total'),
      rows(({ total }, index) => `${index}, ${total}\n`),
    )
    writeFileSync(
      file('uuid,memory.total'),
      rows(({ uuid, total }) => `${uuid}, ${total}\n`),
    )
    writeFileSync(
      file('index,uuid,memory.used'),
      rows(({ uuid, used = 0 }, index) => `${index}, ${uuid}, ${used}\n`),
    )
    const processes = told.flatMap(({ uuid, processes: own = [] }) =>
      own.map(({ pid, used }) => `${uuid}, ${pid}, ${used}\n`),
    )
    writeFileSync(file('gpu_uuid,pid,used_memory'), processes.join(''))
  }
  tell(gpus)
  return { path: `${folder}:${process.env.PATH ?? ''}`, tell }
}

/** `--query-gpu=FIELDS` and `--query-compute-apps=FIELDS` are answered by the file of that name. */
const script = `#!/bin/sh
folder=$(dirname "$0")
fields="\${1#*=}"
[ -r "$folder/$fields" ] || exit 6
exec cat "$folder/$fields"
`
