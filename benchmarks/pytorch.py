"""Wall time against PyTorch's weight_norm, and each against its own plain net.

    PYTHONPATH=folder/with/torch python benchmarks/pytorch.py

The same shapes, optimizers and number of threads, all sides in one process.
In PyTorch too g is not trained, which spares it work.
"""
import harness
import nets
from harness import Column

NETS = ['dense 512 b128', 'dense 1024 b64', 'dense 4096 b32', 'conv 96 b16',
        'conv 32 b1']
QUICK = ['dense 512']
SIDES = ['plain', 'plain again', 'wnorm', 'torch plain', 'torch weight_norm']


def step(net, what, normalized):
    """As `nets.call`."""
    import torch
    from torch.nn.utils.parametrizations import weight_norm
    torch.set_num_threads(harness.threads())
    torch.manual_seed(1)

    def norm(layer):
        if normalized:
            weight_norm(layer)
            layer.parametrizations.weight.original0.requires_grad_(False)
        return layer

    x, y = map(torch.from_numpy, net.data())
    y = y.long()
    layers = []
    if net.kind == 'conv':
        for _ in range(4):
            layers += [norm(torch.nn.Conv2d(net.size, net.size, 3, padding=1)),
                       torch.nn.ReLU()]
        layers.append(torch.nn.Flatten())
    else:
        for _ in range(2):
            layers += [norm(torch.nn.Linear(net.size, net.size)),
                       torch.nn.ReLU()]
    layers.append(norm(torch.nn.Linear(x[0].numel(), nets.CLASSES)))
    model = torch.nn.Sequential(*layers).to(x.dtype)

    def infer():
        with torch.no_grad():
            return torch.softmax(model(x), 1)

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    if what == 'inference':
        model.eval()
        return infer
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = getattr(torch.optim, what[len('train '):])(params, nets.RATE)
    return train


def call(net, side, what):
    if side.startswith('torch'):
        return step(net, what, side.endswith('weight_norm'))
    return nets.call(net, side, what)


def limit(net, what, c):
    if net.kind == 'dense':
        return .5 if net.size >= 4096 else 1


COLUMNS = [
    Column('wnorm', 'wnorm', 'plain', None),
    Column("PyTorch's, to its plain", 'torch weight_norm', 'torch plain',
           None),
    Column("wnorm / PyTorch's", 'wnorm', 'torch weight_norm', limit),
    Column('plain / PyTorch plain', 'plain', 'torch plain', None),
]


def measure(options):
    try:
        import torch
    except ImportError:
        print('PyTorch is not installed: nothing to compare with.')
        return
    yield harness.compare(
        'PyTorch %s' % torch.__version__, nets.cases(options, NETS, QUICK),
        call, options.sides or SIDES, COLUMNS, options, pause=.05)


if __name__ == '__main__':
    harness.main(__doc__, measure)
