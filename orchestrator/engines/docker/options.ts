/** What the engine is told by whoever makes it. */
export interface DockerEngineOptions {
  /** Identity of this orchestrator: what does not carry it is never touched. */
  readonly instance: string
  /** What identifies its data folder: an orchestrator that can't be seen from here may be followed by the folder's next. */
  readonly folder?: string
  /** Holds `module-runner/` and the lock file, of which the runner's image is built. */
  readonly repositoryRoot: string
  /** Image of modules that name none. */
  readonly baseImage?: string
  /** Image that holds the runner; built from the repository when absent. */
  readonly runnerImage?: string
  /** CIDR ranges that module networks are taken from, and the prefix length of each. */
  readonly subnets?: readonly string[]
  readonly subnetPrefix?: number
  /** `process.env`: the way to the daemon, logins of registries, proxies, index and certificates of installers. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly logger?: (level: 'debug' | 'info' | 'warn' | 'error', message: string) => void
  /** How containers are reached, where what is found by itself is wrong: `publish` a port instead of using addresses. */
  readonly reach?: 'publish'
}
