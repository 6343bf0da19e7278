"""Fingerprints of the two nn.py of the paper's authors, not their text.

By the names of their definitions, the hashes of the logical lines one after
another: :func:`wnorm.port.dropin.fingerprints` of the two files.
"""

#: openai/improved-gan, mnist_svhn_cifar10/nn.py
IMPROVED_GAN = {
    'BatchNormLayer': (
        '5c7e0372a7bb7f93c9730309b2753fb1c208f18519dd0a76e2ca346d92fa'
        'dfee3eaa5f713fdea7e4fe0632c0deada7394f80247be483ecffa7e58a20'
        '32c0decc63a7dda675fd354109e4be27ad649500d63e11621d80e8bf12aa'
        '7e2b4832c0de16aa21ca72f53072e96892a9'),
    'Deconv2DLayer': (
        'fe1d0c79827ffd891131cadc39f5998288bf451c7731cadc21f67a25f785'
        'b1c2085edd8c32c0de8c9ef289ed8ea2da1928ae47edd31b39dcbb6892a9'
        '450dc720f192'),
    'DenseLayer': (
        'cc365560838fd0a0f839f5994d6f13dcd1f2aedbc677c35a4ec11ea4f99a'
        '450dc77ee01aa8a309669560c11a009b7b7e39ab6dad171d27e6ee74919c'
        'f5a39059de2832c0de5d8c706892a9'),
    'GaussianNoiseLayer': (
        '7f8dc57d8997e8477e9f982ffcefa7939ad5f43066d2434032c0de9c63af'
        '446ed2d5b70a'),
    'MinibatchLayer': (
        '7570dfeb73e4356e98dbaad7dcd1f2c017e185670884c72c6029c9450dc7'
        '3d7908a2d08c669560c11a0034dfa9bad01539ab6df1244755d5764b7802'
        'c0cd0d39ab6d7f26f7d5cef05e07f932c0deebdd3df51bc6'),
    'WeightNormLayer': (
        '6d3829e596151d9bf0730309a515c9b2753fb1c208f18519dd0a76367873'
        'aa5f713fdea7e4fe0632c0deada7394f8024e4358d45e001d6688745f135'
        '858ace6d3e56a7913fa6c32232c0de0624b0115918dd0a76e6b66132c0de'
        '392426a2d08c39ab6d8f9e42311fcbab2f2fb68837255e732b0a8ea2b3e4'
        'aa04f7'),
    'adam_updates': (
        '327fc717b2ea041b37a727e3986882b3537ae1a12aa7eecb26cf523425ec'
        '26bc7deb8c840886fcbbc1074e989c01d053a3f27d93e4af'),
    'batch_norm': (
        '2047b110d03ebf6fb1abf57cd95bd010b0964ca99ce244ef997a94537f93'),
    'centered_softplus': '3e20edc56445',
    'l2normalize': (
        'e57c041b2d77ab97ed8c9c8675eacf06b773a39739d95bd06b0775982b2f'
        '635d6882930d73717eb8fa60'),
    'log_sum_exp': '3b2fdb4bb3ca27111b',
    'lrelu': '437273116770',
    'relu': 'aa58da23b6e9',
    'weight_norm': '1fb0f010d03ebf6fb1abf57c4ca99ce244ef997a94a460e8',
}

#: openai/weightnorm, lasagne/nn.py
WEIGHTNORM = {
    'BatchNormLayer': (
        '5c7e03160e967f93c9730309b2753fb1c208f18519dd0a76c186786d92fa'
        'dfee3ec43cf8aa5f713fdea7e4fe0632c0deada7394f80247be483ecffa7'
        'e58a2032c0decc63a7dda675fd354109e4be27ad649500d6d885d71d80e8'
        'bf12aa7e2b4832c0de16aa21ca72f53072e96892a9'),
    'GlobalAvgLayer': '550c063e7dcdc0fb9389ed8e46329e450dc713c86b',
    'InitLayer': (
        '3dd7f172a7bb9c3f0b730309b2753fb1c208f18519dd0a76db27cbaa5f71'
        '3fdea7e4fe0632c0deada7394f8024e4358d45e001e9138432c0de115918'
        '9be1bca2d08c39ab6d8f9e42311fcb80b791747461287de32b0a8ea2b3e4'
        'aa04f7'),
    'MeanOnlyBNLayer': (
        '2dc36a160e960429ce730309b2753fb1c208f18519dd0a76c186786d92fa'
        'aa5f713fdea7e4fe0632c0deada7394f8024e4358dba58ef45e001cb0eed'
        'e9138432c0de0624b0115918dd0a762f3c4532c0de987fe952f7ddecffa7'
        '1b7fb332c0ded292cb453e19727fc7e526e7ac7877c6047b0778f3ca72f5'
        '3072e96892a9'),
    'WeightNormLayer': (
        '6d3829160e961d9bf0730309b2753fb1c208f18519dd0a76c18678aa5f71'
        '3fdea7e4fe0632c0deada7394f8024e4358dba58ef45e001cb0eede91384'
        '32c0de0624b0115918dd0a762f3c4532c0de987fe9a2d08c39ab6d8f9e42'
        '311fcb80b791747461287de32b0a8ea2b3e4aa04f7'),
    'ZCA': (
        '0c5bd61a19a2f6103ff8e90b21bd05df565137469a3ebb66ff06fdc99aa3'
        '6b9cf5c5606d6d7c5eb2fb3c65b6466458dd09d7b26eeab237469a5339e4'
        '16c948abd92746674732c0de8c9d77d7c3ff37469a5339e441609eabd927'
        'b4ac9432c0de8c9d77'),
    'adam_updates': (
        '327fc717b2ea041b37a727e3986882b3537ae1a12aa7eecb26cf523425ec'
        '26bc7deb8c840886fcbbc1074e989c01d053a3f27d93e4af'),
    'adamax_updates': (
        '28b79817b2ea041b37986882e1a12ab3537af19c336d43e0d30cce32c0de'
        'a48a49f61556f655270886fc4e989c01d05393e4af'),
    'batch_norm': '2047b110d03ebf6fb1abf57c4ca99ce244ef997a94537f93',
    'log_sum_exp': '3b2fdb4bb3ca27111b',
    'lrelu': 'cda6f8116770',
    'mean_only_bn': '4ff84810d03ebf6fb1abf57c4ca99ce244ef997a94facbc0',
    'no_norm': '277e8e10d03ebf6fb1abf57c4ca99ce244ef997a94eee02e',
    'relu': 'aa58da23b6e9',
    'softmax_loss': 'a7add0c075930a8a926e9db2d95bd0b56dfe',
    'weight_norm': '1fb0f010d03ebf6fb1abf57c4ca99ce244ef997a94a460e8',
}
