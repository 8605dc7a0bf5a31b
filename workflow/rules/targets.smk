# What a user asks for by name; `snakemake --list-target-rules` shows them.


rule mnist:
    """The configured networks on MNIST, which comes with the repository."""
    input:
        made("mnist"),
    localrule: True


rule cifar10:
    """The configured networks on CIFAR-10."""
    input:
        made("cifar10"),
    localrule: True


rule cifar100:
    """The configured networks on CIFAR-100."""
    input:
        made("cifar100"),
    localrule: True


rule baselines:
    """Every method at every point on the configured pairs, compared; hours, see the README."""
    input:
        made("baselines"),
    localrule: True


rule paper:
    """The paper's and the tutorial's recipe as written, beside ours; hours, see docs/as-written.md."""
    input:
        made("paper"),
    localrule: True


rule smoke:
    """Everything on a small slice of MNIST, in a minute or two; its numbers mean nothing."""
    input:
        made("smoke"),
    localrule: True
