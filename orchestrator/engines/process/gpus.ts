import type { GpuDevice } from '../engine.ts'
import { runProgram } from './run-program.ts'

/** NVIDIA devices of this machine as its driver's tool tells them; none when there is no driver or it hangs. */
export async function findGpus(env: Readonly<Record<string, string>>): Promise<readonly GpuDevice[]> {
  const query = ['--query-gpu=uuid,memory.total', '--format=csv,noheader,nounits']
  const { ok, stdout } = await runProgram('nvidia-smi', query, { timeoutMs: 5_000, env })
  return ok ? parseGpus(stdout) : []
}

/** Lines `GPU-<uuid>, <MiB>`; the memory of some devices is `[N/A]`. */
export function parseGpus(output: string): readonly GpuDevice[] {
  return output.split('\n').flatMap((line): GpuDevice[] => {
    const [id, mebibytes] = line.split(',').map((part) => part.trim())
    if (id === undefined || !/^(GPU|MIG)-/.test(id)) return []
    const memory = Number(mebibytes)
    const memoryBytes = Number.isFinite(memory) && memory > 0 ? { memoryBytes: memory * 1024 * 1024 } : {}
    return [{ id, kind: 'nvidia', via: 'host', ...memoryBytes }]
  })
}
