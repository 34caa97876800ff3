import { existsSync } from 'node:fs'
import type { Check } from './check.ts'
import { runCommand } from './command.ts'
import type { DockerFinding } from './docker.ts'

/** GPUs of this machine, and whether Docker can hand them on. None is no failure: modules then run on the CPU. */
export async function checkGpu(docker: DockerFinding, signal: AbortSignal): Promise<Check> {
  const name = 'gpu'
  const { code, stdout, stderr } = await runCommand('nvidia-smi', ['-L'], { timeoutMs: 10_000, signal })
  const found = stdout.split('\n').filter((line) => line.startsWith('GPU '))
  if (code === 0 && found.length > 0) {
    const message = found.map((line) => line.replace(/ \(UUID.*$/, '')).join(', ')
    if (!docker.answers || docker.nvidia) return { name, level: 'ok', message }
    return {
      name,
      level: 'warn',
      message: `${message}; Docker can not hand it to a container`,
      remedy: 'Install the NVIDIA Container Toolkit and restart Docker.',
    }
  }
  if (code !== undefined) {
    return {
      name,
      level: 'warn',
      message: `nvidia-smi finds no GPU: ${(stderr || stdout).trim().split('\n')[0] || `exit code ${code}`}`,
      remedy: 'Look at the NVIDIA driver; until then modules run on the CPU.',
    }
  }
  if (existsSync('/dev/kfd')) return { name, level: 'ok', message: 'an AMD GPU (/dev/kfd)' }
  return { name, level: 'ok', message: 'none found: modules run on the CPU' }
}
